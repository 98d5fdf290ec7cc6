// Publishes the corpus through nginx with an API key, concurrently, over keep-alive connections.
//
//   node publish.mjs --url http://127.0.0.1:8080/events --key hg_… --out FILE [--concurrency 32]
//                    [--until FILE]   repeat the corpus until that file exists (at least once)
//                    [--retry]        after 503 or a lost connection, try that payload again
//                    [--pause-ms MS]  between two payloads of one connection
//                    [--bytes-max N]  only payloads of at most so many bytes
//
// Every 201 is written to FILE at once, one JSON line {id, type, bytes, sha256, at_ms}: what the publisher
// has in hand is what Headgate must account for. Prints one JSON summary.
import { createHash } from 'node:crypto';
import { appendFileSync, existsSync, writeFileSync } from 'node:fs';
import { Agent, request } from 'node:http';
import { setTimeout as sleep } from 'node:timers/promises';
import { parseArgs } from 'node:util';
import { corpus } from './corpus.mjs';

const { values: options } = parseArgs({
  options: {
    url: { type: 'string' },
    key: { type: 'string' },
    out: { type: 'string' },
    concurrency: { type: 'string', default: '32' },
    until: { type: 'string' },
    retry: { type: 'boolean', default: false },
    'pause-ms': { type: 'string', default: '0' },
    'bytes-max': { type: 'string', default: '1000000' },
  },
});

const agent = new Agent({ keepAlive: true, maxSockets: Number(options.concurrency) });
const events = corpus().filter((event) => Buffer.byteLength(event.payload) <= Number(options['bytes-max']));
const pauseMs = Number(options['pause-ms']);
const summary = { corpus: events.length, sent: 0, accepted: 0, statuses: {}, errors: {} };

function post(body) {
  return new Promise((resolve, reject) => {
    const call = request(options.url, {
      method: 'POST',
      agent,
      timeout: 30_000,
      headers: {
        'content-type': 'application/json',
        'content-length': Buffer.byteLength(body),
        'x-api-key': options.key,
      },
    });
    call.on('timeout', () => call.destroy(new Error('timeout')));
    call.on('error', reject);
    call.on('response', (response) => {
      const chunks = [];
      response.on('data', (chunk) => chunks.push(chunk));
      response.on('error', reject);
      response.on('end', () => resolve({ status: response.statusCode, body: Buffer.concat(chunks).toString() }));
    });
    call.end(body);
  });
}

async function publish(event) {
  const body = `{"type":${JSON.stringify(event.type)},"source":"github","payload":${event.payload}}`;
  for (;;) {
    summary.sent++;
    try {
      const answer = await post(body);
      summary.statuses[answer.status] = (summary.statuses[answer.status] ?? 0) + 1;
      if (answer.status === 201) {
        summary.accepted++;
        const line = {
          id: JSON.parse(answer.body).id,
          type: event.type,
          bytes: Buffer.byteLength(event.payload),
          sha256: createHash('sha256').update(event.payload).digest('hex'),
          at_ms: Date.now(),
        };
        appendFileSync(options.out, `${JSON.stringify(line)}\n`);
        return;
      }
      if (!options.retry || answer.status !== 503) return;
    } catch (error) {
      const name = error.code ?? error.message;
      summary.errors[name] = (summary.errors[name] ?? 0) + 1;
      if (!options.retry) return;
    }
    await sleep(20);
  }
}

async function work(queue) {
  for (let event = queue.shift(); event; event = queue.shift()) {
    await publish(event);
    if (pauseMs) await sleep(pauseMs);
  }
}

writeFileSync(options.out, '');
do {
  const queue = [...events];
  await Promise.all(Array.from({ length: Number(options.concurrency) }, () => work(queue)));
} while (options.until && !existsSync(options.until));
agent.destroy();
console.log(JSON.stringify(summary));
