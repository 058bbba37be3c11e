/**
 * What compaction costs, over real files: `npm run bench:compaction -- [--latency] [--endless] [--aged] [options]`. Builds
 * stores in a scratch directory, writes them over and over, measures, removes them. Tables are printed at the end, next to
 * what the figures should be; each row also when it is known, on stderr.
 */

import { letHeapGrow } from '../../src/cli/process.ts';
import { measureAged } from './aged.ts';
import { measureAmplification } from './amplification.ts';
import { measureEndless } from './endless.ts';
import { measureLatency } from './latency.ts';
import { parseOptions } from './options.ts';
import { drawReport, type Report } from './report.ts';

letHeapGrow(); // as a server does
const options = parseOptions();
const reports: Report[] = [];
if (options.latency) reports.push(await measureLatency(options));
if (options.endless) reports.push(await measureEndless(options));
if (options.aged) reports.push(await measureAged(options));
if (reports.length === 0) reports.push(await measureAmplification(options));

if (options.json) {
  const figures = Object.fromEntries(reports.map((report) => [report.title, report.figures]));
  console.log(JSON.stringify(figures, undefined, 2));
} else {
  console.log(reports.map(drawReport).join('\n'));
}
process.exit(); // whatever a store that hangs is still at
