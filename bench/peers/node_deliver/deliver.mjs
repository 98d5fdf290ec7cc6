// From the event streams to a webhook as a good Node team would write it, without a store: ioredis reads a consumer
// group, node:crypto signs, undici posts, XACK and XDEL follow. One process.
//
// usage: node deliver.mjs SETTINGS_FILE     {"redis_port", "streams", "url", "secret", "in_flight"}
//
// Chosen in this peer's favour:
//   One XREADGROUP over all streams for up to 256 entries each; the next one is asked for while the last ones are sent.
//   undici's Pool with as many keep-alive connections as requests in flight, its lowest layer (dispatch).
//   The payload is spliced into the envelope as it came, never parsed; one HMAC for each event (the product makes two).
//   What was delivered is acknowledged and deleted in one pipeline for each turn of the event loop; no retries.
import { createHmac } from 'node:crypto'
import { readFileSync } from 'node:fs'
import { Redis } from 'ioredis'
import { Pool } from 'undici'

const settings = JSON.parse(readFileSync(process.argv[2], 'utf8'))
const GROUP = 'headgate'
const BATCH = '256'
const key = Buffer.from(settings.secret, 'base64')
const url = new URL(settings.url)
const reader = new Redis({ host: '127.0.0.1', port: settings.redis_port })
const writer = new Redis({ host: '127.0.0.1', port: settings.redis_port, enableAutoPipelining: true })
const pool = new Pool(url.origin, { connections: settings.in_flight, pipelining: 1 })

for (const stream of settings.streams) {
  await writer.xgroup('CREATE', stream, GROUP, '0', 'MKSTREAM').catch((error) => {
    if (!error.message.startsWith('BUSYGROUP')) throw error
  })
}

let queue = []
let head = 0
let inFlight = 0
let wake = null
let finished = new Map()

function acknowledge () {
  const done = finished
  finished = new Map()
  for (const [stream, ids] of done) {
    writer.xack(stream, GROUP, ...ids)
    writer.xdel(stream, ...ids)
  }
}

function finish ({ stream, id }) {
  inFlight--
  if (finished.size === 0) setImmediate(acknowledge)
  const ids = finished.get(stream)
  if (ids) ids.push(id)
  else finished.set(stream, [id])
  pump()
}

function send (entry) {
  const { fields } = entry
  const field = {}
  for (let i = 0; i < fields.length; i += 2) field[fields[i]] = fields[i + 1]
  const timestamp = Math.floor(Date.now() / 1000)
  const body = `{"id":"${field.id}","type":${JSON.stringify(field.type)},"created":${Math.floor(field.at / 1000)},` +
    `"data":{"object":${field.payload}},"organization_id":"${field.org}","source":${JSON.stringify(field.source)}}`
  const signature = createHmac('sha256', key).update(`${field.id}.${timestamp}.${body}`).digest('base64')
  pool.dispatch({
    method: 'POST',
    path: url.pathname,
    headers: {
      'content-type': 'application/json',
      'webhook-id': field.id,
      'webhook-timestamp': String(timestamp),
      'webhook-signature': `v1,${signature}`
    },
    body
  }, {
    onConnect () {},
    onHeaders (status) {
      if (status >= 300) throw new Error(`the receiver answered ${status}`)
      return true
    },
    onData () { return true },
    onComplete () { finish(entry) },
    onError (error) { throw error }
  })
}

const waiting = () => queue.length - head

function pump () {
  while (inFlight < settings.in_flight && head < queue.length) {
    inFlight++
    send(queue[head++])
  }
  if (wake && waiting() < settings.in_flight * 4) {
    wake()
    wake = null
  }
}

process.on('SIGTERM', () => process.exit(0))
const next = settings.streams.map(() => '>')
for (;;) {
  const reply = await reader.xreadgroup('GROUP', GROUP, 'peer', 'COUNT', BATCH, 'BLOCK', '200', 'STREAMS', ...settings.streams, ...next)
  queue = queue.slice(head)
  head = 0
  for (const [stream, entries] of reply ?? []) {
    for (const [id, fields] of entries) queue.push({ stream, id, fields })
  }
  pump()
  if (waiting() >= settings.in_flight * 4) await new Promise((resolve) => { wake = resolve })
}
