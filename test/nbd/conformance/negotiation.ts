/** What the conformance tests ask of replies to options. */

import * as nbd from '../../../src/nbd/protocol.ts';
import type { Fixture } from '../fixture.ts';
import type { OptionReply, RawClient } from '../raw-client.ts';

export const NOTHING = Buffer.alloc(0);

/** The type of the reply that ends an option. */
export const last = (replies: readonly OptionReply[]): number => replies.at(-1)!.type;

/** Names in the replies to NBD_OPT_LIST. */
export function serverNames(replies: readonly OptionReply[]): string[] {
  return replies
    .filter(({ type }) => type === nbd.NBD_REP_SERVER)
    .map(({ payload }) => payload.subarray(4, 4 + payload.readUInt32BE(0)).toString());
}

/** Names, with their numbers, in the replies to the options about contexts. */
export function contextsOf(replies: readonly OptionReply[]): Map<string, number> {
  const found = replies.filter(({ type }) => type === nbd.NBD_REP_META_CONTEXT);
  return new Map(found.map(({ payload }) => [payload.subarray(4).toString(), payload.readUInt32BE(0)]));
}

/** Payloads of NBD_REP_INFO by their type of information, without it. */
export function informationOf(replies: readonly OptionReply[]): Map<number, Buffer> {
  const found = replies.filter(({ type }) => type === nbd.NBD_REP_INFO);
  return new Map(found.map(({ payload }) => [payload.readUInt16BE(0), payload.subarray(2)]));
}

/** Transmission flags of a reply to INFO or GO. */
export function flagsOf(replies: readonly OptionReply[]): number {
  return informationOf(replies).get(nbd.NBD_INFO_EXPORT)!.readUInt16BE(8);
}

/** A client behind the greeting. */
export async function greeted({ connect }: Fixture): Promise<RawClient> {
  const client = await connect();
  await client.greet();
  return client;
}

/** True if the server hangs up without another byte. */
export async function isDropped(client: RawClient): Promise<boolean> {
  return (await client.takeRest()).length === 0;
}
