/** Snapshots as streams in memory, and streams into stores, a frame at a time. */

import { Writable } from 'node:stream';
import { sendStream } from '../../src/cli/send-command.ts';
import { StreamReader } from '../../src/delta/stream-reader.ts';
import { StoreDoor } from '../../src/server/store-door.ts';
import type { Store } from '../../src/volume/store.ts';
import { onStore, read } from '../support/stores.ts';

const RUN_ON = new AbortController().signal;

export interface Sending {
  from?: string;
  token?: string;
  /** A file of hashes. */
  resync?: string;
  isCompressed?: boolean;
}

/** The stream that `coppice send` makes. */
export async function sent(store: Store, name: string, sending: Sending = {}): Promise<Buffer> {
  const { from, token, resync, isCompressed = false } = sending;
  const slices: Buffer[] = [];
  const sink = new Writable({
    write: (slice: Buffer, _, done) => {
      slices.push(slice);
      done();
    },
  });
  const what = token === undefined ? { name, from } : { token };
  const request = { what, resync, isCompressed, bytesPerSecond: undefined };
  await sendStream(new StoreDoor(store), request, sink, RUN_ON);
  return Buffer.concat(slices);
}

export interface Delivery {
  /** Whether the position is kept behind each frame. */
  keeps?: boolean;
  /** Told of what has been answered. */
  onKept?: (position: number) => void;
}

/** Receives a stream; answers the name, and whether it was there. Throws what the stream or the store is refused with. */
export async function delivered(
  store: Store,
  name: string,
  bytes: Buffer,
  { keeps = false, onKept }: Delivery = {},
): Promise<{ name: string; isNew: boolean }> {
  const reader = new StreamReader();
  let session: string | undefined;
  let there: string | undefined;
  for (const frame of reader.push(bytes)) {
    if (frame.kind === 'head') {
      const begun = await store.receives.begin(frame.head, name);
      if (begun.state === 'there') there = begun.name;
      else session = begun.session;
    }
    if (frame.kind !== 'changes' || session === undefined) continue;
    await store.receives.apply(session, frame.changes.body);
    if (!keeps) continue;
    await store.receives.advance(session, frame.changes.end);
    onKept?.(frame.changes.end);
  }
  reader.close();
  if (session === undefined) return { name: there!, isNew: false };
  return { name: await store.receives.publish(session), isNew: true };
}

export async function contents(store: Store, name: string): Promise<Buffer> {
  return await onStore(store, name, (device) => read(device, 0, device.sizeBytes));
}

/** All that can be named, and what it has. */
export async function everything(store: Store): Promise<Map<string, string>> {
  const found = new Map<string, string>();
  for (const { name } of store.list()) found.set(name, (await contents(store, name)).toString('base64'));
  return found;
}
