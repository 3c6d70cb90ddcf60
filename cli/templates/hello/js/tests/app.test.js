import assert from 'node:assert/strict';
import { test } from 'node:test';

import { answer } from '../src/app.js';

test('it says hello', async () => {
  const response = await answer(new Request('https://{{name}}.localhost/'));
  assert.equal(response.status, 200);
  assert.equal(await response.text(), 'Hello from {{name}}!\n');
});

test('it knows no other path', async () => {
  const response = await answer(new Request('https://{{name}}.localhost/elsewhere'));
  assert.equal(response.status, 404);
});
