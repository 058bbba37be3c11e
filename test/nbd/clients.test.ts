/** The real clients against a disk in memory: nbdinfo, nbdcopy, qemu-img, qemu-io, fio. */

import { spawn } from 'node:child_process';
import { randomBytes } from 'node:crypto';
import fs from 'node:fs';
import path from 'node:path';
import { describe, expect, it } from 'vitest';
import { requireTools } from '../support/tools.ts';
import { MemoryDevice } from './memory-device.ts';
import { DISK_BYTES, type Fixture, makeDirectory, serve } from './fixture.ts';

interface Outcome {
  readonly status: number | null;
  readonly output: string;
}

/** Runs a program beside this process, which is its server meanwhile. */
async function run(program: string, ...args: string[]): Promise<Outcome> {
  // In a directory that goes away: fio leaves the state of its verification where it is started.
  const child = spawn(program, args, { stdio: ['ignore', 'pipe', 'pipe'], cwd: makeDirectory() });
  let output = '';
  child.stdout.on('data', (text: Buffer) => (output += text.toString()));
  child.stderr.on('data', (text: Buffer) => (output += text.toString()));
  const status = await new Promise<number | null>((resolve) => child.on('close', resolve));
  return { status, output };
}

const uri = (fixture: Fixture, name = 'disk'): string => `nbd+unix:///${name}?socket=${fixture.socketPath}`;

describe.skipIf(!requireTools(['nbdinfo']))('nbdinfo', () => {
  it('lists all exports', async () => {
    const fixture = await serve();
    const { status, output } = await run('nbdinfo', '--list', '--json', uri(fixture, ''));
    expect(status).toBe(0);
    const exports = JSON.parse(output).exports as Record<string, unknown>[];
    expect(exports.map((entry) => entry['export-name'])).toEqual(['disk', 'disk@monday']);
    expect(exports[0]).toMatchObject({
      'export-size': DISK_BYTES,
      is_read_only: false,
      can_multi_conn: true,
      can_fua: true,
      can_flush: true,
      can_trim: true,
      can_zero: true,
      can_df: true,
      can_cache: true,
      can_fast_zero: true,
      contexts: [
        'base:allocation',
        'qemu:allocation-depth',
        'coppice:changed-since:monday',
        'qemu:dirty-bitmap:monday',
      ],
      block_size_minimum: 1,
      block_size_preferred: 4096,
      block_size_maximum: 33554432,
    });
    expect(exports[1]).toMatchObject({
      is_read_only: true,
      can_multi_conn: true,
      can_trim: false,
      can_zero: false,
    });
  });

  it('lists a thousand exports', async () => {
    const fixture = await serve();
    for (let index = 0; index < 500; index++)
      fixture.exports.add(new MemoryDevice(`disk@${index}`, 4096, true));
    const { status, output } = await run('nbdinfo', '--list', '--json', uri(fixture, ''));
    expect(status).toBe(0);
    expect(JSON.parse(output).exports.length).toBe(502);
  });

  it('maps data and holes', async () => {
    const fixture = await serve();
    fixture.disk.allocated.fill(1, 4, 8);
    const { output } = await run('nbdinfo', '--map', '--json', uri(fixture));
    expect(JSON.parse(output)).toMatchObject([
      { offset: 0, length: 16384, type: 3 },
      { offset: 16384, length: 16384, type: 0 },
      { offset: 32768, length: DISK_BYTES - 32768, type: 3 },
    ]);
  });

  it('is told that an export does not exist', async () => {
    const fixture = await serve();
    const { status, output } = await run('nbdinfo', uri(fixture, 'nope'));
    expect(status).not.toBe(0);
    expect(output).toContain('nope');
  });
});

describe.skipIf(!requireTools(['nbdcopy']))('nbdcopy', () => {
  it.each([true, false])('brings a disk in and out unchanged, reads at once: %s', async (readsAtOnce) => {
    const fixture = await serve();
    fixture.disk.readsAtOnce = readsAtOnce;
    const [source, target] = ['source', 'target'].map((name) => path.join(fixture.directory, name));
    const bytes = Buffer.concat([
      randomBytes(5 * 2 ** 20),
      Buffer.alloc(3 * 2 ** 20),
      randomBytes(8 * 2 ** 20),
    ]);
    fs.writeFileSync(source!, bytes);
    expect(await run('nbdcopy', '--flush', source!, uri(fixture))).toEqual({ status: 0, output: '' });
    expect(fixture.disk.bytes.equals(bytes)).toBe(true);
    expect(fixture.disk.log).toContain('flush');
    expect(await run('nbdcopy', uri(fixture), target!)).toEqual({ status: 0, output: '' });
    expect(fs.readFileSync(target!).equals(bytes)).toBe(true);
  });
});

describe.skipIf(!requireTools(['qemu-io', 'qemu-img']))('qemu', () => {
  it('writes, reads, zeroes, discards and flushes at odd offsets', async () => {
    const fixture = await serve();
    const commands = [
      'write -P 7 1000 5000',
      'read -P 7 1000 5000',
      'write -f -P 9 65000 1000000',
      'read -P 9 65000 1000000',
      'write -z 70000 8192',
      'read -P 0 70000 8192',
      'write -zu 65536 131072',
      'read -P 0 65536 131072',
      'discard 0 1M',
      'flush',
      'aio_write -P 3 2M 64k',
      'aio_write -P 4 3M 4M',
      'aio_flush',
      'read -P 3 2M 64k',
      'read -P 4 3M 4M',
    ];
    const { status, output } = await run(
      'qemu-io',
      '-f',
      'raw',
      ...commands.flatMap((line) => ['-c', line]),
      uri(fixture),
    );
    expect(output).not.toMatch(/failed|error/i);
    expect(status).toBe(0);
    expect(fixture.disk.log).toContain('flush');
  });

  it('compares a disk with a file, and maps it', async () => {
    const fixture = await serve();
    const file = path.join(fixture.directory, 'file');
    const bytes = Buffer.alloc(DISK_BYTES);
    randomBytes(1_000_000).copy(bytes, 4096);
    fs.writeFileSync(file, bytes);
    const convert = await run('qemu-img', 'convert', '-n', '-f', 'raw', '-O', 'raw', file, uri(fixture));
    expect(convert).toEqual({ status: 0, output: '' });
    const compare = await run('qemu-img', 'compare', '-f', 'raw', '-F', 'raw', file, uri(fixture));
    expect(compare.output).toContain('identical');
    const map = await run('qemu-img', 'map', '--output=json', '-f', 'raw', uri(fixture));
    expect(JSON.parse(map.output).some((extent: { data: boolean }) => !extent.data)).toBe(true);
  });

  it('is refused a write to a snapshot', async () => {
    const fixture = await serve();
    const target = uri(fixture, 'disk@monday');
    const { status, output } = await run('qemu-io', '-f', 'raw', '-c', 'write 0 4k', target);
    expect(status).not.toBe(0);
    expect(output).toMatch(/permission denied|read-only/i);
  });
});

describe.skipIf(!requireTools(['fio']))('fio', () => {
  it.each(['randwrite', 'randrw'])(
    'verifies what it wrote: %s, mixed sizes, two jobs',
    async (mode) => {
      const fixture = await serve();
      const { status, output } = await run(
        'fio',
        '--name=verify',
        '--ioengine=nbd',
        `--uri=${uri(fixture)}`,
        `--rw=${mode}`,
        '--bsrange=512-256k',
        '--bs_unaligned=1',
        '--size=8m',
        '--offset_increment=8m',
        '--numjobs=2',
        '--iodepth=32',
        '--verify=crc32c',
        '--do_verify=1',
        '--verify_fatal=1',
      );
      expect(output).not.toMatch(/verify.*(failed|bad)/i);
      expect(status).toBe(0);
    },
    60_000,
  );
});
