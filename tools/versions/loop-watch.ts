/** Preloaded into a server: on SIGUSR2 it prints as JSON how long the event loop was kept from its timers since last time. */

import { monitorEventLoopDelay } from 'node:perf_hooks';

const RESOLUTION_MS = 1;
const delays = monitorEventLoopDelay({ resolution: RESOLUTION_MS });
delays.enable();
process.on('SIGUSR2', () => {
  const ms = (ns: number): number => ns / 1e6 - RESOLUTION_MS;
  const figures = { p99: ms(delays.percentile(99)), p999: ms(delays.percentile(99.9)), max: ms(delays.max) };
  process.stdout.write(`${JSON.stringify(figures)}\n`);
  delays.reset();
});
