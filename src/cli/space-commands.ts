/** The commands about what versions hold: diff and du. */

import type { Door } from '../server/door.ts';
import type { DiffExtent } from '../volume/summary.ts';
import type { Output } from './output.ts';
import { formatSize } from './size.ts';
import { drawTable } from './table.ts';

/** Prints extents as they come: a line of JSON each with --json, a row each without. */
export async function printDiff(door: Door, output: Output, from: string, to: string): Promise<void> {
  let extents = 0;
  const bytes = { data: 0, hole: 0 };
  for await (const extent of door.diff(from, to)) {
    // Not before: a name that there is not leaves nothing on standard output.
    if (extents === 0 && !output.json) output.raw(row('OFFSET', 'LENGTH', 'TYPE'));
    extents += 1;
    bytes[extent.type] += extent.length;
    output.raw(output.json ? `${JSON.stringify(extent)}\n` : rowOf(extent));
    if (!(await output.drained())) return;
  }
  if (output.json) return;
  const total = `${formatSize(bytes.data)} of data, ${formatSize(bytes.hole)} of holes`;
  output.raw(extents === 0 ? 'no difference\n' : `${extents} extents differ: ${total}\n`);
}

function rowOf({ offset, length, type }: DiffExtent): string {
  return row(String(offset), String(length), type);
}

function row(offset: string, length: string, type: string): string {
  return `${offset.padStart(16)}  ${length.padStart(14)}  ${type}\n`;
}

export async function printSpace(door: Door, output: Output, names: readonly string[]): Promise<void> {
  const report = await door.space(names);
  output.print(report, () => {
    const rows = report.versions.map(({ name, referenced, exclusive, shared }) => [
      name,
      formatSize(referenced),
      formatSize(exclusive),
      formatSize(shared),
    ]);
    const all = report.versions.length === 1 ? 'it' : 'all of them';
    const total = `${formatSize(report.reclaimable)} (${report.reclaimable} bytes)`;
    return `${drawTable(['NAME', 'REFERENCED', 'EXCLUSIVE', 'SHARED'], rows)}deleting ${all} would give back ${total}\n`;
  });
}
