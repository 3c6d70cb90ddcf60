// {{name}}: an HTTP API at the edge, on the framework Hono (https://hono.dev).

import { Hono } from 'hono';

const HELLO = { en: 'Hello', de: 'Hallo', fr: 'Bonjour' };

export const app = new Hono();

// Stands around every route: sees each request first and each answer last.
app.use(async (c, next) => {
  await next();
  c.header('x-served-by', '{{name}}');
});

app.get('/', (c) => c.text('{{name}}: GET /greetings/:name?lang=de, POST /sum\n'));

app.get('/greetings/:name', (c) => {
  const name = c.req.param('name');
  const language = c.req.query('lang') ?? 'en';
  if (!Object.hasOwn(HELLO, language)) return c.json({ error: 'that language is not spoken here' }, 404);
  return c.json({ name, greeting: `${HELLO[language]}, ${name}!` });
});

app.post('/sum', async (c) => {
  const { numbers } = (await c.req.json().catch(() => null)) ?? {};
  if (!Array.isArray(numbers) || !numbers.every(Number.isFinite)) {
    return c.json({ error: 'send {"numbers": [1, 2]}' }, 400);
  }
  return c.json({ count: numbers.length, sum: numbers.reduce((sum, number) => sum + number, 0) });
});

app.all('/sum', (c) => c.text('method not allowed\n', 405, { allow: 'POST' }));

app.notFound((c) => c.text('not found\n', 404));

app.onError((error, c) => {
  console.error(error);
  return c.text('internal error\n', 500);
});
