import assert from 'node:assert/strict';
import { test } from 'node:test';

import { app } from '../src/app.js';

const sum = (body) => app.request('/sum', { method: 'POST', body });

test('a greeting speaks the language asked for', async () => {
  const said = await app.request('/greetings/Zo%C3%AB?lang=fr');
  assert.deepEqual(await said.json(), { name: 'Zoë', greeting: 'Bonjour, Zoë!' });
  assert.equal((await app.request('/greetings/ana?lang=tlh')).status, 404);
});

test('numbers are added and anything else is refused', async () => {
  assert.deepEqual(await (await sum('{"numbers":[1,2.5]}')).json(), { count: 2, sum: 3.5 });
  for (const bad of ['[1,2]', '{"numbers":["1"]}', '']) assert.equal((await sum(bad)).status, 400, bad);
});

test('paths and methods that are not there are said to be', async () => {
  assert.equal((await app.request('/elsewhere')).status, 404);
  const refused = await app.request('/sum');
  assert.deepEqual([refused.status, refused.headers.get('allow')], [405, 'POST']);
});

test('every answer is marked', async () => {
  for (const path of ['/', '/greetings/ana', '/elsewhere']) {
    assert.equal((await app.request(path)).headers.get('x-served-by'), '{{name}}', path);
  }
});
