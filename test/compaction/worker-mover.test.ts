/** The thread of compaction: it can be closed at any moment, also while it begins, and the process lives on. */

import fs from 'node:fs';
import path from 'node:path';
import { expect, it } from 'vitest';
import { runTool } from '../support/programs.ts';
import { scratchDirectory } from '../support/stores.ts';

const BUILT = new URL('../../dist/src/compaction/worker-mover.js', import.meta.url).href;

/** As built, because threads run nothing else; in a process of its own, because what is wrong takes the process along. */
const SCRIPT = `
const { WorkerMover } = await import(${JSON.stringify(BUILT)});
const codes = new Set();
for (let i = 0; i < 40; i++) {
  const mover = new WorkerMover(process.argv[2], Buffer.alloc(16));
  const found = mover.find([{ segment: 77, end: 1 }]).catch(({ code }) => codes.add(code));
  await new Promise((resolve) => setTimeout(resolve, 3 * i));
  await mover.close();
  await found;
}
console.log([...codes].sort().join());
`;

it('the thread of a mover is closed while it is loading, at work, and done', async () => {
  const directory = scratchDirectory();
  const script = path.join(directory, 'close.mjs');
  fs.writeFileSync(script, SCRIPT);
  const { result, output } = await runTool(process.execPath, [script, directory]);
  fs.rmSync(directory, { recursive: true });
  expect({ result, output: output.trim() }).toEqual({ result: 0, output: 'CLOSED,CORRUPTION' });
});
