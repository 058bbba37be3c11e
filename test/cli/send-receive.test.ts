/** `coppice send`, `receive` and `stream` as users run them: pipes, files, a server, kill -9, and what is refused. */

import fs from 'node:fs';
import path from 'node:path';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { Changes } from '../../src/delta/changes.ts';
import { decodeTotals } from '../../src/delta/format.ts';
import type { ReceiveSummary } from '../../src/volume/summary.ts';
import { Random } from '../support/random.ts';
import { scratchDirectory } from '../support/stores.ts';
import { MAIN, ok, run, Running, serve, stop } from './command.ts';

const CHUNK = 4096;
const IMAGE_BYTES = 12 << 20;
const directory = scratchDirectory();
const at = (name: string): string => path.join(directory, name);
const source = at('source');

/** Streams: the whole of the first snapshot, and what differs from it in the second. */
let full: Buffer;
let delta: Buffer;
let images: { one: Buffer; two: Buffer };

beforeAll(async () => {
  const random = new Random(4);
  const one = Buffer.alloc(IMAGE_BYTES);
  for (let offset = 0; offset < IMAGE_BYTES; offset += CHUNK)
    if (!random.chance(20)) random.bytes(CHUNK).copy(one, offset);
  const two = Buffer.from(one);
  for (let i = 0; i < 40; i++) random.bytes(CHUNK).copy(two, CHUNK * random.below(IMAGE_BYTES / CHUNK));
  two.fill(0, 1 << 20, 2 << 20);
  images = { one, two };
  fs.writeFileSync(at('one.raw'), one);
  fs.writeFileSync(at('two.raw'), two);
  await ok(source, ['init', '--segment-size', '4M']);
  await ok(source, ['import', 'disk', at('one.raw')]);
  await ok(source, ['snapshot', 'disk@one']);
  await ok(source, ['import', 'disk', at('two.raw'), '--force']);
  await ok(source, ['snapshot', 'disk@two']);
  full = (await run(['--store', source, 'send', 'disk@one'])).bytes;
  delta = (await run(['--store', source, 'send', 'disk@two', '--from', '@one'])).bytes;
});

afterAll(() => fs.rmSync(directory, { recursive: true, force: true }));

async function emptyStore(name: string): Promise<string> {
  await ok(at(name), ['init', '--segment-size', '4M']);
  return at(name);
}

async function exported(store: string, name: string): Promise<Buffer> {
  return (await run(['--store', store, 'export', name, '-'])).bytes;
}

async function receives(store: string): Promise<ReceiveSummary[]> {
  return JSON.parse(await ok(store, ['--json', 'receive', '--status'])) as ReceiveSummary[];
}

describe('send and receive', () => {
  it('carry a volume to another store, whole and then what differs', async () => {
    const target = await emptyStore('plain');
    expect(await ok(target, ['receive', 'disk'], { input: full })).toContain('received disk@one');
    expect((await exported(target, 'disk')).equals(images.one)).toBe(true);
    expect(await ok(target, ['receive', 'disk'], { input: delta })).toContain('received disk@two');
    expect((await exported(target, 'disk')).equals(images.two)).toBe(true);
    expect((await exported(target, 'disk@one')).equals(images.one)).toBe(true);
    expect(await ok(target, ['receive', 'disk'], { input: delta })).toContain('is there already');
    expect(await ok(target, ['list'])).toContain('replica');
    expect(await ok(target, ['fsck'])).toContain('clean');
    const refused = await run(['--store', target, 'import', 'disk', at('one.raw'), '--force']);
    expect([refused.code, refused.err]).toEqual([1, expect.stringContaining('a replica')]);
  });

  it('do the same between two stores that are served', async () => {
    const target = await emptyStore('served');
    const servers = [await serve(source), await serve(target)];
    const sent = await run(['--store', source, 'send', 'disk@one', '--compress']);
    expect(sent.code).toBe(0);
    await ok(target, ['receive', 'disk'], { input: sent.bytes });
    const changes = await run(['--store', source, 'send', 'disk@two', '--from', 'disk@one']);
    expect(changes.bytes.length).toBe(delta.length);
    await ok(target, ['receive', 'disk@renamed'], { input: changes.bytes });
    expect((await exported(target, 'disk')).equals(images.two)).toBe(true);
    expect((await exported(target, 'disk@renamed')).equals(images.two)).toBe(true);
    const cut = await run(['--store', target, 'receive', 'copy'], {
      input: full.subarray(0, full.length / 2),
    });
    expect(cut.code).toBe(1);
    const [waiting] = await receives(target);
    await ok(target, ['receive', '--abort', waiting!.receive]);
    expect(await ok(target, ['receive', '--status'])).toContain('nothing is being received');
    for (const server of servers) expect((await stop(server)).code).toBe(0);
  });

  it('leave out what is zeros and holes, and compress what gets shorter', async () => {
    const store = await emptyStore('sparse');
    const image = Buffer.alloc(8 << 20);
    image.fill('text ', 1 << 20, 2 << 20);
    fs.writeFileSync(at('sparse.raw'), image);
    await ok(store, ['import', 'disk', at('sparse.raw')]);
    await ok(store, ['snapshot', 'disk@a']);
    const plain = (await run(['--store', store, 'send', 'disk@a'])).bytes;
    const packed = (await run(['--store', store, 'send', 'disk@a', '--compress'])).bytes;
    expect(plain.length).toBeLessThan((1 << 20) + 2000);
    expect(packed.length).toBeLessThan(20_000);
    const target = await emptyStore('unpacked');
    await ok(target, ['receive', 'disk'], { input: packed });
    expect((await exported(target, 'disk')).equals(image)).toBe(true);
    // Random bytes do not get shorter, and travel as they are.
    const random = (await run(['--store', source, 'send', 'disk@one', '--compress'])).bytes;
    expect(random.length).toBeLessThanOrEqual(full.length);
  });

  it('go on after the receiver was killed, from what it had kept', async () => {
    const target = await emptyStore('killed');
    const receiver = new Running(MAIN, ['--store', target, 'receive', 'disk']);
    receiver.child.stdin!.write(full.subarray(0, full.length - 1_000_000));
    await receiver.until(() => fs.readdirSync(path.join(target, 'log')).length > 2, 'data in the log');
    receiver.child.kill('SIGKILL');
    await receiver.ended;
    expect(await ok(target, ['--json', 'list'])).toBe('[]\n');
    const [killed] = await receives(target);
    expect(killed).toMatchObject({ name: 'disk@one', size: IMAGE_BYTES });
    // Cut off again, and now it says how to go on.
    const cut = await run(['--store', target, 'receive', 'disk'], {
      input: full.subarray(0, full.length - 1_000_000),
    });
    const token = /send --resume (\S+)/.exec(cut.err)![1]!;
    const [waiting] = await receives(target);
    expect([cut.code, waiting!.token]).toEqual([1, token]);
    expect(waiting!.position).toBeGreaterThan(IMAGE_BYTES / 2);
    const rest = (await run(['--store', source, 'send', '--resume', token])).bytes;
    expect(rest.length).toBeLessThan(full.length / 2);
    expect(await ok(target, ['receive', 'disk'], { input: rest })).toContain('received disk@one');
    expect((await exported(target, 'disk')).equals(images.one)).toBe(true);
    expect(await receives(target)).toEqual([]);
    expect(await ok(target, ['fsck'])).toContain('clean');
  });

  it('keep what has come when the receiver is stopped', async () => {
    const target = await emptyStore('stopped');
    const receiver = new Running(MAIN, ['--store', target, 'receive', 'disk']);
    receiver.child.stdin!.write(full.subarray(0, full.length - 1_000_000));
    await receiver.until(() => fs.readdirSync(path.join(target, 'log')).length > 2, 'data in the log');
    const { code, err } = await stop(receiver);
    expect([code, err]).toEqual([143, expect.stringContaining('send --resume')]);
    expect((await receives(target))[0]!.position).toBeGreaterThan(0);
  });

  it('keep to a rate', async () => {
    const startedAt = performance.now();
    const { code } = await run(['--store', source, 'send', 'disk@two', '--from', '@one', '--rate', '8M']);
    expect(code).toBe(0);
    expect(performance.now() - startedAt).toBeGreaterThan((1000 * (delta.length - 1_200_000)) / (8 << 20));
  });

  it('refuse what cannot be, and say what to do', async () => {
    const target = await emptyStore('refusing');
    const refused = async (store: string, args: string[], input: Buffer | string = ''): Promise<string> => {
      const { code, err } = await run(['--store', store, ...args], { input });
      expect(code).toBeGreaterThan(0);
      return err;
    };
    expect(await refused(source, ['send', 'disk'])).toContain('make a snapshot of it');
    expect(await refused(source, ['send', 'disk@none'])).toContain('no snapshot');
    expect(await refused(source, ['send', 'disk@one', '--from', '@one'])).toContain(
      'does not differ from itself',
    );
    expect(await refused(source, ['send'])).toContain('give VOLUME@NAME');
    expect(await refused(source, ['send', '--resume', 'x'])).toContain('no token');
    expect(await refused(target, ['receive', 'disk'], 'a plain text that is no stream')).toContain(
      'no stream',
    );
    expect(await refused(target, ['receive', 'disk'])).toContain('nothing came');
    expect(await refused(target, ['receive', 'disk'], delta)).toContain('builds on one');
    expect(await refused(target, ['receive'])).toContain('give one of these');
    expect(await refused(target, ['receive', 'disk', '--status'])).toContain('give one of these');
    expect(await ok(target, ['--json', 'list'])).toBe('[]\n');
  });
});

describe('stream', () => {
  it('tells what is in a file, verifies it, and puts two together', async () => {
    fs.writeFileSync(at('full'), full);
    fs.writeFileSync(at('delta'), delta);
    expect(await ok(source, ['stream', 'inspect', at('delta')])).toContain('base:');
    const told = JSON.parse(await ok(source, ['--json', 'stream', 'inspect', at('full')])) as object;
    const { created } = JSON.parse(await ok(source, ['--json', 'show', 'disk@one'])) as { created: string };
    expect(created).toMatch(/^\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z$/);
    expect(told).toMatchObject({ base: null, target: { name: 'one', size: IMAGE_BYTES, created } });
    expect(told).toMatchObject({ packedFrames: 0 });
    expect(await ok(source, ['stream', 'verify', at('full')])).toContain('is whole');
    const both = await run(['stream', 'compose', at('full'), at('delta')]);
    const target = await emptyStore('composed');
    await ok(target, ['receive', 'disk'], { input: both.bytes });
    expect((await exported(target, 'disk@two')).equals(images.two)).toBe(true);
    const wrong = await run(['stream', 'compose', at('delta'), at('full')]);
    expect([wrong.code, wrong.err]).toEqual([2, expect.stringContaining('in their order')]);
    const damaged = Buffer.from(full);
    damaged[5_000_000]! ^= 1;
    fs.writeFileSync(at('damaged'), damaged);
    const found = await run(['stream', 'verify', at('damaged')]);
    expect([found.code, found.err]).toEqual([1, expect.stringContaining('does not match its checksum')]);
    const missing = await run(['stream', 'verify', at('nothing')]);
    expect([missing.code, missing.err]).toEqual([1, expect.stringContaining('there is no file')]);
  });

  it('that are cut off, damaged or none are told as that, and nothing is said of the store', async () => {
    const other = Buffer.from(full);
    other[5_000_000]! ^= 1;
    const names = { cut: full.subarray(0, 40), half: delta.subarray(0, 400), other, none: images.one };
    for (const [name, bytes] of Object.entries(names)) fs.writeFileSync(at(name), bytes);
    fs.writeFileSync(at('full'), full);
    const target = await emptyStore('told');
    await ok(target, ['receive', 'disk'], { input: full });
    const receive = ['--store', target, 'receive'];
    const cases: [args: string[], input: Buffer | string, sentence: RegExp][] = [
      [[...receive, 'new'], names.cut, /^coppice: the stream was cut off in its frame 0; send it again\n$/],
      [
        [...receive, 'new'],
        'hello',
        /^coppice: that is no stream of `coppice send`; give what that command writes\n$/,
      ],
      [[...receive, 'new'], '', /^coppice: there is no stream: nothing came; look at what sends it\n$/],
      // What it brings is there, and it was cut off all the same.
      [
        [...receive, 'disk'],
        full.subarray(0, 3 << 20),
        /^coppice: the stream was cut off in its frame \d; send it again\n$/,
      ],
      [
        ['stream', 'verify', at('cut')],
        '',
        /^coppice: '.*cut': the stream was cut off in its frame 0; send it again\n$/,
      ],
      [
        ['stream', 'inspect', at('cut')],
        '',
        /^coppice: '.*cut': the stream was cut off in its frame 0; send it again\n$/,
      ],
      [
        ['stream', 'compose', at('full'), at('half')],
        '',
        /^coppice: '.*half': the stream was cut off in .*; send it again\n$/,
      ],
      [
        ['stream', 'inspect', at('other')],
        '',
        /^coppice: '.*other': the stream is damaged: .*; send it again\n$/,
      ],
      [
        ['stream', 'inspect', at('none')],
        '',
        /^coppice: '.*none': that is no stream of `coppice send`; give what that/,
      ],
      [
        ['stream', 'verify', '-'],
        names.cut,
        /^coppice: the stream was cut off in its frame 0; send it again\n$/,
      ],
      [
        ['--store', target, 'send', 'disk@one', '--resync', at('none')],
        '',
        /`coppice hashes`; make them again with `coppice hashes`\n$/,
      ],
    ];
    for (const [args, input, sentence] of cases) {
      const { code, err } = await run(args, { input });
      expect([args, code, err]).toEqual([args, 1, expect.stringMatching(sentence)]);
      expect(err).not.toMatch(/fsck|--read-only/);
    }
    for (const args of [
      ['stream', 'inspect', directory],
      ['stream', 'verify', directory],
      ['--store', target, 'send', 'disk@one', '--resync', directory],
    ])
      expect(await run(args)).toMatchObject({
        code: 2,
        err: `coppice: '${directory}' is a directory; give a file\n`,
      });
  });

  it('that are whole, with a body that is too short, are told as streams too', () => {
    expect(() => new Changes(Buffer.alloc(3))).toThrow(/the stream is damaged: .*; send it again$/);
    expect(() => new Changes(Buffer.from([0, 0, 0, 2, 0, 0]))).toThrow(
      /the stream is damaged: .*; send it again$/,
    );
    expect(() => decodeTotals(Buffer.alloc(23))).toThrow(/the stream is damaged: .*; send it again$/);
  });
});
