/** Two streams in one do what they do one behind the other. */

import { describe, expect, it } from 'vitest';
import { composedBodies, composedHead } from '../../src/delta/compose.ts';
import { decodeHead } from '../../src/delta/head.ts';
import { type Frame, StreamReader } from '../../src/delta/stream-reader.ts';
import { rawBody, StreamWriter } from '../../src/delta/stream-writer.ts';
import { Random, seeds } from '../support/random.ts';
import { applied, headOf, makeStream, randomFrames, readAll, type Made } from './streams.ts';

async function* slowly(frames: Iterable<Frame>): AsyncGenerator<Frame> {
  yield* frames;
}

/** `frames` without what a head says already. */
async function composed(first: Made, second: Made): Promise<Made> {
  const head = composedHead(first.head, second.head);
  const writer = new StreamWriter();
  const slices = writer.begin(head);
  const frames = [slowly(readAll(first.bytes)), slowly(readAll(second.bytes))] as const;
  for await (const body of composedBodies([first.head, second.head], frames))
    slices.push(...writer.changes(rawBody(body)));
  return { head, bytes: Buffer.concat([...slices, ...writer.end()]) };
}

async function made(random: Random, head: Made['head']): Promise<Made> {
  return { head, bytes: await makeStream(head, randomFrames(random, head.target.size), random.chance(50)) };
}

const CASES = seeds(60);

describe('composing', () => {
  it.each(CASES)('gives what both give one behind the other, whatever the sizes (seed %i)', async (seed) => {
    const random = new Random(seed);
    const size = (): number => 512 * random.between(1, 400);
    const isFull = random.chance(30);
    const base = headOf(size(), null, 'one').target;
    const first = await made(random, headOf(size(), isFull ? null : base, 'two'));
    const second = await made(random, headOf(size(), first.head.target, 'three'));
    const third = await made(random, headOf(size(), second.head.target, 'four'));
    const a = isFull ? Buffer.alloc(0) : Buffer.alloc(base.size, 0xa5);
    const b = applied(a, first.head, readAll(first.bytes));
    const c = applied(b, second.head, readAll(second.bytes));
    const one = await composed(first, second);
    expect(applied(a, one.head, readAll(one.bytes)).equals(c)).toBe(true);
    // And again with a third.
    const d = applied(c, third.head, readAll(third.bytes));
    const all = await composed(one, third);
    expect(applied(a, all.head, readAll(all.bytes)).equals(d)).toBe(true);
    expect(all.head.base?.uuid).toBe(first.head.base?.uuid);
  });

  it('leaves out what was written over', async () => {
    const size = 1 << 20;
    const first = headOf(size, headOf(size).target, 'two');
    const second = headOf(size, first.target, 'three');
    const full = [[{ offset: 0, bytes: Buffer.alloc(size, 1) }]];
    const over = [[{ offset: 4096, bytes: Buffer.alloc(size - 4096, 2) }]];
    const one = { head: first, bytes: await makeStream(first, full) };
    const two = { head: second, bytes: await makeStream(second, over) };
    const end = readAll((await composed(one, two)).bytes).at(-1)!;
    expect(end).toMatchObject({ kind: 'end', totals: { dataBytes: size } });
  });

  it('refuses streams that do not follow each other', () => {
    const first = headOf(4096);
    expect(() => composedHead(first, headOf(4096))).toThrow('is of a whole version');
    expect(() => composedHead(first, headOf(4096, headOf(4096).target))).toThrow('builds on');
    const second = { ...headOf(4096, first.target), position: 512 };
    expect(() => composedHead(first, second)).toThrow('only whole streams');
  });
});

describe('a head', () => {
  it('is refused if anything in it cannot be', () => {
    const head = headOf(4096, headOf(4096).target);
    const text = (change: object): Buffer => Buffer.from(JSON.stringify({ ...head, ...change }));
    expect(decodeHead(text({}))).toEqual(head);
    const wrong = [
      { store: 'x' },
      { volume: null },
      { target: { ...head.target, size: 513 } },
      { target: { ...head.target, size: 2 ** 60 } },
      { target: { ...head.target, name: '../x' } },
      { target: { ...head.target, created: -1 } },
      { target: { ...head.target, by: 'me' } },
      { base: { ...head.base, uuid: 7 } },
      { base: undefined },
      { position: 100 },
      { position: 8192 },
    ];
    for (const each of wrong) expect(() => decodeHead(text(each))).toThrow('its head');
    expect(() => decodeHead(Buffer.from('{'))).toThrow('no JSON');
    expect(() => [...new StreamReader().push(Buffer.alloc(20))]).toThrow('no stream');
  });
});
