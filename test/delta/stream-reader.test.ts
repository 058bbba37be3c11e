/** What the reader of streams lets through, and what it does not. */

import zlib from 'node:zlib';
import { describe, expect, it } from 'vitest';
import { StoreError } from '../../src/base/errors.ts';
import {
  CHANGES_FRAME,
  DIGEST_BYTES,
  encodeFrameHeader,
  encodeTotals,
  END_FRAME,
  FRAME_HEADER_BYTES,
  HEAD_FRAME,
  SIGNATURE,
} from '../../src/delta/format.ts';
import { decodeToken, encodeHead, encodeToken } from '../../src/delta/head.ts';
import { type Frame, StreamReader } from '../../src/delta/stream-reader.ts';
import { Random, seeds } from '../support/random.ts';
import {
  applied,
  bodyOf,
  forgedStream,
  headerFor,
  headOf,
  makeStream,
  randomFrames,
  readAll,
} from './streams.ts';

const MUTATIONS = Number(process.env.MUTATIONS ?? 100_000);
const DISK_BYTES = 400 << 10;
const MUTATED_BYTES = 60 << 10;
/** Flipping each bit costs the square of the length. */
const FLIPPED_BYTES = Number(process.env.FLIPPED_KIB ?? 10) << 10;

async function sample(isPacked = false, bytes = DISK_BYTES): Promise<Buffer> {
  return await makeStream(headOf(bytes), randomFrames(new Random(7), bytes), isPacked);
}

/** Frames that came before an error; a programmer's mistake is not caught. */
function readUntilError(bytes: Buffer): { frames: Frame[]; error: StoreError | undefined } {
  const reader = new StreamReader();
  const frames: Frame[] = [];
  try {
    for (const frame of reader.push(bytes)) frames.push(frame);
    reader.close();
    return { frames, error: undefined };
  } catch (error) {
    if (!(error instanceof StoreError)) throw error;
    return { frames, error };
  }
}

/** Where each frame of a stream begins, and its end. */
function boundaries(bytes: Buffer): number[] {
  const found = [SIGNATURE.length];
  while (found.at(-1)! < bytes.length)
    found.push(found.at(-1)! + FRAME_HEADER_BYTES + bytes.readUInt32BE(found.at(-1)! + 12) + DIGEST_BYTES);
  return found;
}

describe('a reader of streams', () => {
  it('reads what was written, in pieces of any size', async () => {
    for (const isPacked of [false, true]) {
      const bytes = await sample(isPacked);
      const whole = readAll(bytes);
      expect(whole.map(({ kind }) => kind)).toEqual(['head', ...whole.slice(2).map(() => 'changes'), 'end']);
      const head = headOf(DISK_BYTES);
      const disk = applied(Buffer.alloc(DISK_BYTES, 1), head, whole);
      for (const pieceBytes of [1, 7, 4096])
        expect(applied(Buffer.alloc(DISK_BYTES, 1), head, readAll(bytes, pieceBytes)).equals(disk)).toBe(
          true,
        );
    }
  });

  it('begins with the bytes that the format says', async () => {
    const head = { ...headOf(4096), store: '00000000-0000-4000-8000-000000000001' };
    const bytes = await makeStream(head, [[{ offset: 512, bytes: Buffer.alloc(512, 9) }]]);
    expect(bytes.toString('latin1', 0, 20)).toBe('COPPICE STREAM 1CPSF');
    expect(bytes.subarray(20, 24).toString('hex')).toBe('01000000');
    const changes = boundaries(bytes)[1]!;
    expect(bytes.subarray(changes + 4, changes + 12).toString('hex')).toBe('0200000000000001');
    const body = bytes.subarray(changes + 32, changes + 32 + 16).toString('hex');
    expect(body).toBe('00000001000000000001000000000001');
  });

  it('refuses a stream that is cut off at any byte, and answers only what came whole', async () => {
    const bytes = await sample();
    expect(bytes.length).toBeGreaterThan(64 << 10);
    const ends = new Set(boundaries(bytes).slice(1));
    // To close a reader changes nothing in it: so each byte may have been the last.
    const reader = new StreamReader();
    for (let end = 0; end < bytes.length; end++) {
      expect(() => reader.close()).toThrow(StoreError);
      const frames = [...reader.push(bytes.subarray(end, end + 1))];
      expect(frames.length).toBe(ends.has(end + 1) ? 1 : 0);
    }
    reader.close();
  });

  it.each([
    ['as they are', false],
    ['packed', true],
  ])('refuses a stream with any bit flipped, at the frame that has it: bodies %s', async (_, isPacked) => {
    const random = new Random(3);
    const frames = randomFrames(random, FLIPPED_BYTES);
    const bytes = await makeStream(headOf(FLIPPED_BYTES), frames, isPacked);
    const ends = boundaries(bytes);
    for (let bit = 0; bit < bytes.length * 8; bit++) {
      const at = bit >> 3;
      bytes[at]! ^= 1 << (bit & 7);
      const { frames, error } = readUntilError(bytes);
      bytes[at]! ^= 1 << (bit & 7);
      if (error === undefined) throw new Error(`bit ${bit} of ${bytes.length * 8} went through`);
      expect(['CORRUPTION', 'UNSUPPORTED_FORMAT']).toContain(error.code);
      if (frames.length !== Math.max(0, ends.filter((each) => each <= at).length - 1))
        throw new Error(`bit ${bit}: ${frames.length} frames came through`);
    }
  });

  it('refuses frames that are missing, doubled, or in another order', async () => {
    const bytes = await sample();
    const ends = boundaries(bytes);
    const frame = (i: number): Buffer => bytes.subarray(ends[i], ends[i + 1]);
    const count = ends.length - 1;
    expect(count).toBeGreaterThan(4);
    const order = [...Array(count).keys()];
    const wrong = [
      order.toSpliced(2, 1),
      order.toSpliced(2, 0, 2),
      order.toSpliced(2, 2, 3, 2),
      order.toSpliced(0, 1),
      [...order, count - 1],
      [0, count - 1],
    ];
    for (const each of wrong) {
      const made = Buffer.concat([SIGNATURE, ...each.map(frame)]);
      expect(readUntilError(made).error?.code).toBe('CORRUPTION');
    }
    expect(readUntilError(Buffer.concat([SIGNATURE, ...order.map(frame)])).error).toBeUndefined();
  });

  it('refuses a frame of another stream in the place of its own', async () => {
    const [one, other] = [await sample(), await sample()];
    const ends = boundaries(one);
    const mixed = Buffer.concat([one.subarray(0, ends[3]), other.subarray(ends[3])]);
    expect(readUntilError(mixed).error?.message).toContain('does not follow what came before it');
  });

  it('refuses what goes on behind its end, what is no stream, and one of a later release', async () => {
    const bytes = await sample();
    const later = Buffer.from(bytes);
    later.write('COPPICE STREAM 2', 'latin1');
    expect(readUntilError(Buffer.concat([bytes, Buffer.from('x')])).error?.message).toContain(
      'behind its end',
    );
    expect(readUntilError(Buffer.alloc(100)).error?.message).toContain('no stream');
    expect(readUntilError(Buffer.alloc(0)).error?.message).toContain('nothing came');
    expect(readUntilError(later).error?.code).toBe('UNSUPPORTED_FORMAT');
  });

  it('looks at the number, the checksum and the lengths of each frame, even if the digest fits', () => {
    const [head, body] = [encodeHead(headOf(8192)), bodyOf([{ offset: 0, bytes: Buffer.alloc(512, 1) }])];
    const first = { header: encodeFrameHeader(headerFor(0, HEAD_FRAME, head)), body: head };
    const right = headerFor(1, CHANGES_FRAME, body);
    const withHeader = (header: object): StoreError | undefined => {
      const forged = { header: encodeFrameHeader({ ...right, ...header }), body };
      return readUntilError(forgedStream([first, forged])).error;
    };
    expect(withHeader({})?.message).toContain('was cut off');
    expect(withHeader({ number: 2 })?.message).toContain('frame 2 stands where 1 should');
    expect(withHeader({ bodyChecksum: 1 })?.message).toContain('frame 1 does not match its checksum');
    expect(withHeader({ unpackedBytes: 2 ** 31 })?.message).toContain('which cannot be');
    expect(withHeader({ unpackedBytes: body.length + 1 })?.message).toContain('which cannot be');
    expect(withHeader({ kind: 9 })?.message).toContain('unknown kind');
    expect(withHeader({ kind: HEAD_FRAME })?.message).toContain('a head stands');
    expect(withHeader({ codec: 3 })?.code).toBe('UNSUPPORTED_FORMAT');
    expect(withHeader({ codec: 1 })?.message).toContain('cannot be unpacked');
    // A length that is not believed is told at once, and not when so many bytes have come.
    const longer = encodeFrameHeader(headerFor(0, HEAD_FRAME, head));
    longer[14]! ^= 1;
    longer[18]! ^= 1;
    expect(() => [...new StreamReader().push(Buffer.concat([SIGNATURE, longer]))]).toThrow(
      'the header of a frame',
    );
    const end = encodeTotals({ frames: 7, dataBytes: 512, zeroBytes: 0 });
    const lying = { header: encodeFrameHeader(headerFor(2, END_FRAME, end)), body: end };
    const all = [first, { header: encodeFrameHeader(right), body }, lying];
    expect(readUntilError(forgedStream(all)).error?.message).toContain('other changes than came');
  });

  it('unpacks no more than a header says', () => {
    const head = encodeHead(headOf(8192));
    const bomb = zlib.deflateRawSync(Buffer.alloc(64 << 20));
    const header = { ...headerFor(1, CHANGES_FRAME, bomb), codec: 1, unpackedBytes: 1 << 20 };
    const frames = [
      { header: encodeFrameHeader(headerFor(0, HEAD_FRAME, head)), body: head },
      { header: encodeFrameHeader(header), body: bomb },
    ];
    expect(readUntilError(forgedStream(frames)).error?.message).toContain('cannot be unpacked');
  });

  it('refuses extents out of order over frames, and behind the end of the disk', async () => {
    const at = (offset: number) => [{ offset, bytes: Buffer.alloc(512, 1) }];
    const backwards = await makeStream(headOf(8192), [at(4096), at(0)]);
    const behind = await makeStream(headOf(8192), [at(8192)]);
    expect(readUntilError(backwards).error?.message).toContain('not in order');
    expect(readUntilError(behind).error?.message).toContain('behind the end');
  });

  it.each(seeds(1))(`takes ${MUTATIONS} mutated streams without a mistake (seed %i)`, async (seed) => {
    const random = new Random(seed);
    const originals = [await sample(false, MUTATED_BYTES), await sample(true, MUTATED_BYTES)];
    // As long as the heap is in use, nothing is let go: what a reader holds is bounded by its frame.
    const before = process.memoryUsage().arrayBuffers;
    for (let i = 0; i < MUTATIONS; i++) {
      const bytes = mutated(random, random.pick(originals));
      if (readUntilError(bytes).error !== undefined) continue;
      expect(originals.some((original) => original.equals(bytes))).toBe(true);
    }
    expect(process.memoryUsage().arrayBuffers - before).toBeLessThan(256 << 20);
  });
});

/** Bytes changed, cut out, doubled or put in, mostly at fields of headers. */
function mutated(random: Random, original: Buffer): Buffer {
  let bytes = Buffer.from(original.subarray(0, random.chance(50) ? original.length : 4096));
  for (let left = random.between(1, 3); left > 0; left--) {
    const at = random.below(bytes.length);
    const other = random.below(bytes.length);
    const count = random.between(1, 64);
    switch (random.below(5)) {
      case 0:
        bytes[at] = random.below(256);
        break;
      case 1:
        bytes.writeUInt32BE(random.next(), Math.min(at, bytes.length - 4));
        break;
      case 2:
        bytes = Buffer.concat([bytes.subarray(0, at), bytes.subarray(Math.min(bytes.length, at + count))]);
        break;
      case 3:
        bytes = Buffer.concat([
          bytes.subarray(0, at),
          bytes.subarray(other, other + count),
          bytes.subarray(at),
        ]);
        break;
      default:
        bytes.copyWithin(at, other, Math.min(bytes.length, other + count));
    }
    if (bytes.length < 8) return bytes;
  }
  return bytes;
}

describe('a token', () => {
  it('says where to go on, and is refused if it is none', () => {
    const { target } = headOf(8192);
    const token = encodeToken(target.uuid, null, 4096);
    expect(decodeToken(token)).toEqual({ target: target.uuid, base: null, position: 4096 });
    for (const wrong of ['', 'x:y:0', `${target.uuid}:nothing`, `${token}:1`, `${target.uuid}:nothing:13`])
      expect(() => decodeToken(wrong)).toThrow('no token');
  });
});
