// The corpus: every example payload in @octokit/webhooks-examples, of api.github.com and of every
// GitHub Enterprise version in the package, as {type, payload}: payload is the JSON text to send.
import { readFileSync, readdirSync, existsSync } from 'node:fs';
import { dirname, join } from 'node:path';
import { createRequire } from 'node:module';

const require = createRequire(import.meta.url);

export function corpus() {
  const root = dirname(require.resolve('@octokit/webhooks-examples/package.json'));
  const events = [];
  for (const name of readdirSync(root).sort()) {
    const index = join(root, name, 'index.json');
    if (!existsSync(index)) continue;
    for (const event of JSON.parse(readFileSync(index, 'utf8'))) {
      for (const example of event.examples) {
        events.push({ type: `github.${event.name}`, payload: JSON.stringify(example) });
      }
    }
  }
  return events;
}
