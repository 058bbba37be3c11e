/** `coppice metrics`: what `status` says, as metrics in the text format of Prometheus, whoever has the store open. */

import type { Door } from '../server/door.ts';
import { renderMetrics } from '../server/metrics.ts';
import type { Output } from './output.ts';

/** The same with `--json`: numbers as JSON are what `status` is for. */
export async function printMetrics(door: Door, output: Output): Promise<void> {
  output.raw(await renderMetrics(await door.status({ atCheckpoint: true })));
}
