/**
 * Real programs that tests drive: which are installed. A test that needs one that is missing is skipped, loudly; with
 * COPPICE_REQUIRE_TOOLS=1 it fails instead, so that nothing is skipped where everything is supposed to be there.
 */

import { spawnSync } from 'node:child_process';

/**
 * True if all of `names` can be run: `describe.skipIf(!requireTools(['nbdinfo']))(...)`.
 * @throws Error if one is missing and COPPICE_REQUIRE_TOOLS=1
 */
export function requireTools(names: string[]): boolean {
  const missing = names.filter((name) => spawnSync('which', [name]).status !== 0);
  if (missing.length === 0) return true;
  const message = `missing: ${missing.join(', ')}`;
  if (process.env['COPPICE_REQUIRE_TOOLS'] === '1') throw new Error(`${message} (COPPICE_REQUIRE_TOOLS=1)`);
  process.stderr.write(
    `\n*** TESTS SKIPPED: ${message}. Install them, or tests of real clients say nothing. ***\n\n`,
  );
  return false;
}
