/** What two stores say to each other: cut anywhere, altered anywhere, and made up by somebody who means harm. */

import net from 'node:net';
import { afterEach, describe, expect, it } from 'vitest';
import { StoreError } from '../../src/base/errors.ts';
import {
  ALIVE,
  encodeJson,
  encodePieceHeader,
  HELLO,
  JSON_BYTES_MAX,
  type Message,
  MESSAGE_HEADER_BYTES,
  MessageReader,
  OFFER,
  PROTOCOL,
  SERVICE,
  STREAM,
} from '../../src/replication/messages.ts';
import { Random, seeds } from '../support/random.ts';
import { sent } from '../volume/replicas.ts';
import { Site } from './site.ts';

const STORE = '00000000-0000-4000-8000-000000000001';
const DISK = '00000000-0000-4000-8000-000000000002';
const hello = (wants: object | null): Buffer =>
  encodeJson(HELLO, { service: SERVICE, protocol: PROTOCOL, store: STORE, wants });

function read(pieces: readonly Buffer[]): { messages: Message[]; error: unknown } {
  const reader = new MessageReader();
  const messages: Message[] = [];
  try {
    for (const piece of pieces)
      for (const message of reader.push(piece)) {
        const before = messages.at(-1);
        // Pieces come in whatever parts.
        if ('bytes' in message && before !== undefined && 'bytes' in before)
          messages.splice(-1, 1, { kind: STREAM, bytes: Buffer.concat([before.bytes, message.bytes]) });
        else messages.push(message);
      }
    return { messages, error: undefined };
  } catch (error) {
    return { messages, error };
  }
}

describe('messages', () => {
  const bytes = Buffer.from('any bytes');
  const all = Buffer.concat([
    hello({ role: 'push' }),
    encodePieceHeader(bytes.length),
    bytes,
    encodeJson(ALIVE, {}),
  ]);
  const expected = [
    { kind: HELLO, fields: { service: SERVICE, protocol: PROTOCOL, store: STORE, wants: { role: 'push' } } },
    { kind: STREAM, bytes },
    { kind: ALIVE, fields: {} },
  ];

  it('are the same wherever their bytes are cut', () => {
    for (let at = 0; at <= all.length; at++)
      expect(read([all.subarray(0, at), all.subarray(at)]).messages).toEqual(expected);
    expect(read([...all].map((byte) => Buffer.from([byte]))).messages).toEqual(expected);
  });

  it('are refused if any bit of them is another, but for bytes of a stream, which has its own checksums', () => {
    const streamAt = all.indexOf(bytes);
    for (let bit = 0; bit < 8 * all.length; bit++) {
      const at = bit >> 3;
      if (at >= streamAt && at < streamAt + bytes.length) continue;
      const altered = Buffer.from(all);
      altered[at]! ^= 1 << (bit & 7);
      const { messages, error } = read([altered, Buffer.alloc(JSON_BYTES_MAX)]);
      expect(error).toMatchObject({ code: 'CORRUPTION' });
      expect(messages).toEqual(expected.slice(0, messages.length));
    }
  });

  it('have nothing allocated by a length that is too long', () => {
    const header = encodePieceHeader(1);
    header.writeUInt32BE(0xffffffff, 8);
    expect(read([header]).error).toMatchObject({
      message: expect.stringContaining('has 4294967295 bytes') as string,
    });
    expect(read([Buffer.alloc(MESSAGE_HEADER_BYTES)]).error).toBeInstanceOf(StoreError);
  });
});

describe('a listener', () => {
  const sites: Site[] = [];
  afterEach(async () => {
    for (const each of sites.splice(0)) await each.remove();
  });

  async function make(): Promise<Site> {
    const site = await Site.make();
    sites.push(site);
    return site;
  }

  /** Sends bytes, and waits until the other end hangs up. */
  async function talk(port: number, bytes: Buffer): Promise<Buffer> {
    const heard: Buffer[] = [];
    await new Promise<void>((resolve) => {
      const socket = net.connect(port, '127.0.0.1', () => socket.end(bytes));
      socket.on('data', (piece) => heard.push(piece));
      socket.on('error', () => resolve());
      socket.on('close', () => resolve());
    });
    return Buffer.concat(heard);
  }

  it('says why it refuses', async () => {
    const { port } = await make();
    const refusalOf = async (bytes: Buffer): Promise<unknown> => {
      const { messages } = read([await talk(port, bytes)]);
      return (messages.at(-1) as { fields: Record<string, unknown> }).fields.message;
    };
    expect(await refusalOf(Buffer.from('GET / HTTP/1.1\r\n\r\n'))).toMatch(
      /no message where one should begin/,
    );
    expect(await refusalOf(hello({ role: 'else' }))).toMatch(/does not say what it wants/);
    expect(await refusalOf(encodeJson(HELLO, { service: SERVICE, protocol: 9, store: STORE }))).toMatch(
      /another release/,
    );
    const pull = { role: 'pull', volume: 'none', as: 'copy', id: 'f', rate: null, snapshots: 'made' };
    expect(await refusalOf(hello(pull))).toMatch(/there is no volume none/);
    const offer = { volume: { uuid: DISK, name: 'disk' }, as: 'disk', target: { uuid: DISK, name: 'x' } };
    const bad = encodeJson(OFFER, { ...offer, have: [[DISK]] });
    expect(await refusalOf(Buffer.concat([hello({ role: 'push' }), bad]))).toMatch(/an offer lacks/);
  });

  it.each(seeds(2))('goes on whatever it is sent (seed %i)', async (seed) => {
    const random = new Random(seed);
    const [site, from] = [await make(), await make()];
    await from.store.createVolume('disk', 1 << 20);
    await from.write('disk', 0, random.bytes(100_000));
    await from.store.snapshot(['disk@one']);
    const stream = await sent(from.store, 'disk@one');
    const { volume, snapshots } = from.store.feeds.volumeNamed('disk')!;
    const right = (as: string): Buffer[] => [
      hello({ role: 'push' }),
      encodeJson(OFFER, {
        volume: { uuid: volume.uuid, name: 'disk' },
        as,
        target: { uuid: snapshots[0]!.uuid, name: 'one' },
        have: [[snapshots[0]!.uuid, 1 << 20]],
      }),
      encodePieceHeader(stream.length),
      stream,
    ];
    const rounds = Number(process.env.FUZZ ?? 300);
    for (let round = 0; round < rounds; round++) {
      const parts = right(random.chance(50) ? 'disk' : `disk-${random.below(20)}`);
      if (random.chance(20)) parts.splice(random.below(parts.length), 1);
      if (random.chance(20)) parts.push(parts[random.below(parts.length)]!);
      const bytes = Buffer.concat(parts);
      for (let left = random.below(4); left > 0; left--)
        bytes[random.below(random.chance(50) ? 1000 : bytes.length) % bytes.length] = random.below(256);
      await talk(site.port, random.chance(20) ? bytes.subarray(0, random.below(bytes.length)) : bytes);
      // What can be named is right, whoever sent it.
      if (!site.store.names().includes('disk@one')) continue;
      expect((await site.contents('disk@one')).equals(await from.contents('disk'))).toBe(true);
      await site.stop();
      await site.start();
      for (const { name, owner } of site.store
        .list()
        .flatMap(({ name, holds }) => holds.map(({ owner }) => ({ name, owner }))))
        await site.store.release(name, owner);
      await site.store.delete(['disk'], { recursive: true });
    }
    const id = await from.push('disk', site, { peerVolume: 'well' });
    expect((await from.run(id)).error).toBeNull();
  });
});
