/** Where standard output goes may be full, or nobody reads it: what the built program says and how it ends. */

import { spawn } from 'node:child_process';
import fs from 'node:fs';
import path from 'node:path';
import { beforeAll, describe, expect, it } from 'vitest';
import { scratchDirectory } from '../support/stores.ts';
import { MAIN, ok, START } from './command.ts';

let scratch: string;
let store: string;
const at = (name: string): string => path.join(scratch, name);

interface Ended {
  readonly code: number | null;
  readonly err: string;
}

/** Runs a line of bash in which `coppice` is the program on the store. */
async function shell(line: string): Promise<Ended> {
  const script = `coppice() { '${process.execPath}' '${MAIN}' --store '${store}' "$@"; }; set -o pipefail; ${line}`;
  const child = spawn('bash', ['-c', script], { cwd: scratch, stdio: ['ignore', 'ignore', 'pipe'] });
  let err = '';
  child.stderr.setEncoding('utf8').on('data', (text: string) => {
    err += text;
  });
  return await new Promise((resolve) => child.once('close', (code) => resolve({ code, err })));
}

beforeAll(async () => {
  scratch = scratchDirectory();
  store = at('store');
  fs.writeFileSync(at('image'), Buffer.alloc(600_000, 7));
  await ok(store, ['init']);
  await ok(store, ['import', 'disk', at('image')]);
  await ok(store, ['snapshot', 'disk@a']);
  await ok(store, ['import', 'disk', at('image'), '--force']);
  await ok(store, ['snapshot', 'disk@b']);
  expect(await shell('coppice send disk@a > a; coppice send disk@b --from @a > ab')).toEqual({
    code: 0,
    err: '',
  });
  return () => fs.rmSync(scratch, { recursive: true });
});

describe('a full disk below standard output', () => {
  const FULL =
    /^coppice: writing to standard output: ENOSPC: .*; .* not complete: make room, then try again\n$/;

  it.each([
    'send disk@a',
    'send disk@b --from @a',
    'hashes disk@a',
    'stream compose a ab',
    'export disk -',
    'diff disk@a disk',
    'list',
    '--json list',
    'status',
    'dump',
    'dump records --segment 1',
    'stream inspect a',
    'list --help',
    '--version',
  ])('ends `%s` with one sentence that says what to do', async (words) => {
    expect(await shell(`coppice ${words} > /dev/full`)).toEqual({
      code: 1,
      err: expect.stringMatching(FULL),
    });
  });

  it('is no clean bill of health', async () => {
    expect(await shell('coppice fsck > /dev/full')).toEqual({ code: 8, err: expect.stringMatching(FULL) });
  });

  it('does not undo what was done', async () => {
    expect(await shell('coppice create more --size 1M > /dev/full')).toMatchObject({ code: 1 });
    expect(await ok(store, ['show', 'more'])).toMatch(/more/);
  });

  it('that takes only a part of what is printed, or of a stream, has not taken it', async () => {
    const help = (await ok(store, ['serve', '--help'])).length;
    expect(help).toBeGreaterThan(2048);
    // Blocks of 1 KiB. What the limit leaves no room for fails once a part of it has been written.
    for (const words of ['serve --help', 'stream compose a ab']) {
      const { code, err } = await shell(`(ulimit -f 2; coppice ${words}) > part`);
      expect([words, code]).toEqual([words, 1]);
      expect(err).toMatch(/EFBIG: .* not complete: make room, then try again\n$/);
    }
  });

  it('keeps no server from serving', async () => {
    const [own, port] = [at('served'), '0'];
    for (const program of [[MAIN, '--store', own, 'serve'], [START]]) {
      await ok(own, ['init']).catch(() => undefined);
      const full = fs.openSync('/dev/full', 'w');
      const child = spawn(process.execPath, program, {
        env: { ...process.env, COPPICE_STORE: own, COPPICE_PORT: port },
        stdio: ['ignore', full, 'pipe'],
      });
      fs.closeSync(full);
      let err = '';
      await new Promise<void>((resolve, reject) => {
        child.once('close', () => reject(new Error(err)));
        child.stderr!.setEncoding('utf8').on('data', (text: string) => {
          err += text;
          if (err.includes('writing to standard output: ENOSPC')) resolve();
        });
      });
      expect(await ok(own, ['status'])).toContain(`process ${child.pid} `);
      const ended = new Promise((resolve) => child.once('close', resolve));
      child.kill('SIGTERM');
      expect(await ended).toBe(0);
    }
  });
});

describe('a reader that goes away', () => {
  it('before a list ends is none of its business', async () => {
    expect(await shell('coppice list | true')).toEqual({ code: 0, err: '' });
    expect(await shell('coppice diff disk@a disk | true')).toEqual({ code: 0, err: '' });
  });

  it('before a stream or an image ends did not get it', async () => {
    for (const words of ['send disk@a', 'export disk -'])
      expect(await shell(`coppice ${words} | true`)).toEqual({
        code: 1,
        err: expect.stringMatching(/^coppice: .*its reader went away; the (stream|image) is not complete\n$/),
      });
  });
});

it('standard error that takes nothing does not change how a command ends', async () => {
  expect((await shell('coppice show nobody 2> /dev/full')).code).toBe(1);
});
