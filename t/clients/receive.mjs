// A webhook receiver as a customer would write it: verifies each delivery with the standardwebhooks
// package and the `sha256=` header with node:crypto, and answers 204, or 400 when one does not verify.
//
//   node receive.mjs --port PORT --secret-file FILE --out FILE
//
// Writes one JSON line for each delivery before it answers: {id, type, sha256, standard, hmac, spliced, at_ms}. `sha256` is of the
// payload inside the envelope; `spliced` says that those bytes stand in the body as they were sent.
import { createHash, createHmac, timingSafeEqual } from 'node:crypto';
import { appendFileSync, readFileSync, writeFileSync } from 'node:fs';
import { createServer } from 'node:http';
import { parseArgs } from 'node:util';
import { Webhook } from 'standardwebhooks';

const { values: options } = parseArgs({
  options: { port: { type: 'string' }, 'secret-file': { type: 'string' }, out: { type: 'string' } },
});

let secret;

function readSecret() {
  secret ??= readFileSync(options['secret-file'], 'utf8').trim();
  return secret;
}

function verifyStandard(body, headers) {
  try {
    new Webhook(readSecret()).verify(body, headers);
    return true;
  } catch {
    return false;
  }
}

function verifyHmac(body, headers) {
  const key = Buffer.from(readSecret().replace(/^whsec_/, ''), 'base64');
  const expected = Buffer.from(`sha256=${createHmac('sha256', key).update(body).digest('hex')}`);
  const given = Buffer.from(headers['x-webhook-signature'] ?? '');
  return given.length === expected.length && timingSafeEqual(given, expected);
}

const server = createServer((request, response) => {
  const chunks = [];
  request.on('data', (chunk) => chunks.push(chunk));
  request.on('end', () => {
    const body = Buffer.concat(chunks);
    const text = body.toString('utf8');
    const envelope = JSON.parse(text);
    const payload = JSON.stringify(envelope.data.object);
    const line = {
      id: request.headers['webhook-id'],
      envelope_id: envelope.id,
      type: envelope.type,
      event: request.headers['x-webhook-event'],
      delivery: request.headers['x-webhook-delivery'],
      sha256: createHash('sha256').update(payload).digest('hex'),
      standard: verifyStandard(text, request.headers),
      hmac: verifyHmac(body, request.headers),
      spliced: text.includes(`"object":${payload}`),
      at_ms: Date.now(),
    };
    appendFileSync(options.out, `${JSON.stringify(line)}\n`);
    response.writeHead(line.standard && line.hmac ? 204 : 400).end();
  });
});

writeFileSync(options.out, '');
server.keepAliveTimeout = 60_000;
server.listen(Number(options.port), '127.0.0.1');
process.on('SIGTERM', () => {
  server.close(() => process.exit(0));
  server.closeAllConnections();
});
