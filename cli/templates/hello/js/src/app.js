// {{name}}: answers requests at the edge.

export async function answer(request) {
  const { pathname } = new URL(request.url);
  if (pathname === '/') return text('Hello from {{name}}!\n');
  return text('not found\n', 404);
}

function text(body, status = 200) {
  return new Response(body, { status, headers: { 'content-type': 'text/plain; charset=utf-8' } });
}

// Not there in tests, which call answer() themselves.
globalThis.addEventListener?.('fetch', (event) => event.respondWith(answer(event.request)));
