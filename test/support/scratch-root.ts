/** What tests leave in scratch directories, killed ones too, goes when all of them have ended. */

import fs from 'node:fs';
import os from 'node:os';
import path from 'node:path';

export default function scratchRoot(): () => void {
  const root = fs.mkdtempSync(path.join(os.tmpdir(), 'coppice-'));
  process.env.TMPDIR = root;
  return () => fs.rmSync(root, { recursive: true, force: true });
}
