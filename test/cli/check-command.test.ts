/** `coppice fsck`: what it prints and how it ends. */

import { afterEach, describe, expect, it } from 'vitest';
import { checkStore } from '../../src/cli/check-command.ts';
import { StoreError } from '../../src/base/errors.ts';
import { Output } from '../../src/cli/output.ts';
import type { Finding } from '../../src/volume/summary.ts';
import { MemoryStore } from '../server/memory-store.ts';
import { serveMemory, temporaryDirectory } from '../server/served.ts';

const NOTE: Finding = { severity: 'note', code: 'TORN_TAIL', message: 'the log ends in a torn record' };
const DAMAGE: Finding = { severity: 'damage', code: 'CHECKSUM', message: 'a chunk does not match' };

const ends: (() => Promise<void>)[] = [];
afterEach(async () => {
  for (const end of ends.splice(0)) await end();
});

async function check(findings: Finding[], json = false, failure?: Error) {
  const store = new MemoryStore();
  store.findings = findings;
  store.checkFailure = failure;
  const directory = temporaryDirectory();
  ends.push((await serveMemory(store, directory)).end);
  let printed = '';
  const complaints: string[] = [];
  const output = new Output(json, (text) => {
    printed += text;
  });
  const code = await checkStore(
    () => directory,
    output,
    (sentence) => complaints.push(sentence),
  );
  return { code, printed, complaints };
}

describe('fsck', () => {
  it('ends with 0 for a clean store', async () => {
    expect(await check([])).toEqual({ code: 0, printed: 'clean\n', complaints: [] });
  });

  it('ends with 0 when there are only notes', async () => {
    const { code, printed } = await check([NOTE]);
    expect(code).toBe(0);
    expect(printed).toBe('note: the log ends in a torn record [TORN_TAIL]\nclean\n');
  });

  it('ends with 4 for damage', async () => {
    const { code, printed } = await check([NOTE, DAMAGE]);
    expect(code).toBe(4);
    expect(printed).toContain('damage: a chunk does not match [CHECKSUM]\n1 finding\n');
  });

  it('ends with 8 and a sentence when it cannot look', async () => {
    const { code, complaints } = await check([DAMAGE], false, new StoreError('IO', 'the disk is gone'));
    expect(code).toBe(8);
    expect(complaints).toEqual(['the disk is gone']);
  });

  it('prints one array with --json, whole even when it fails', async () => {
    expect(JSON.parse((await check([], true)).printed)).toEqual([]);
    expect(JSON.parse((await check([NOTE, DAMAGE], true)).printed)).toEqual([NOTE, DAMAGE]);
    const failed = await check([NOTE], true, new StoreError('IO', 'gone'));
    expect(failed.code).toBe(8);
    expect(JSON.parse(failed.printed)).toEqual([NOTE]);
  });
});
