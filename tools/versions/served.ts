/**
 * A server whose event loop is watched: `node served.js STORE`. Prints the URI of each volume, then waits; on SIGUSR2 it
 * prints as JSON how long the loop was kept from its timers since the last time, in milliseconds.
 */

import path from 'node:path';
import { monitorEventLoopDelay } from 'node:perf_hooks';
import { silentLogger } from '../../src/base/logger.ts';
import { Serving, type ServingOptions } from '../../src/cli/serving.ts';

const directory = path.resolve(process.argv[2]!);
const RESOLUTION_MS = 1;

const serving = await Serving.start({
  directory,
  sockets: [path.join(directory, 'nbd.sock')],
  addresses: [],
  otherPort: '',
  readOnly: false,
  cacheBytes: undefined,
  logger: silentLogger as ServingOptions['logger'],
});
const delays = monitorEventLoopDelay({ resolution: RESOLUTION_MS });
delays.enable();
process.on('SIGUSR2', () => {
  const ms = (ns: number): number => ns / 1e6 - RESOLUTION_MS;
  console.log(
    JSON.stringify({
      p99: ms(delays.percentile(99)),
      p999: ms(delays.percentile(99.9)),
      max: ms(delays.max),
    }),
  );
  delays.reset();
});
process.on('SIGTERM', () => {
  void serving.stop().then(() => process.exit(0));
});
for (const { uri } of serving.volumes()) console.log(uri);
console.log('ready');
