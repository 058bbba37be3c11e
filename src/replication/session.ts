/**
 * What two stores say to each other first, and which of them sends: who connects says whether it pushes or pulls.
 *
 *     wants {"role": "push"}
 *     wants {"role": "pull", "volume": name here, "as": name there, "id": of the feed, "rate": bytes a second or null,
 *            "snapshots": "made" or "all"}
 */

import { StoreError } from '../base/errors.ts';
import { isUuid } from '../delta/head.ts';
import { feedOwner, feedProblem } from '../volume/feeds.ts';
import type { Store } from '../volume/store.ts';
import type { Channel } from './channel.ts';
import { garbled, HELLO, PROTOCOL, SERVICE } from './messages.ts';
import { Receiver, type ReceivingProgress } from './receiver.ts';
import { Sender, type SendingProgress } from './sender.ts';

export interface PullWanted {
  readonly role: 'pull';
  readonly volume: string;
  readonly as: string;
  readonly id: string;
  readonly rate: number | null;
  readonly snapshots: 'made' | 'all';
}

export type Wanted = { readonly role: 'push' } | PullWanted;

const NOBODY: ReceivingProgress & SendingProgress = {
  sending: () => undefined,
  receiving: () => undefined,
  arrived: async () => undefined,
};

/** Says hello, first; answers the UUID of the store at the other end. @throws UNSUPPORTED_FORMAT, INVALID_ARGUMENT, CORRUPTION, IO */
export async function greet(channel: Channel, store: string, wants: Wanted): Promise<string> {
  await sayHello(channel, store, wants);
  return checkHello(await channel.expect(HELLO), store);
}

/**
 * The session of who was connected to, from its first word to its last.
 * @throws what either end is refused with
 */
export async function serveSession(store: Store, channel: Channel, now: () => number): Promise<void> {
  const own = store.feeds.storeUuid;
  const hello = await channel.expect(HELLO);
  const peer = checkHello(hello, own);
  const wants = checkWanted(hello.wants);
  await sayHello(channel, own, null);
  if (wants.role === 'push') {
    await new Receiver(store, channel, { peer, as: undefined }, NOBODY, now).run();
    return;
  }
  const found = store.feeds.volumeNamed(wants.volume);
  if (found === undefined) throw new StoreError('NOT_FOUND', `there is no volume ${wants.volume}`);
  const { as, rate, snapshots } = wants;
  // No feed of this store has an id like that.
  const owner = feedOwner(`${wants.id}@${peer}`);
  const reason = `the newest that store ${peer} has too, which comes for it`;
  const sending = { volume: found.volume.uuid, as, owner, reason, rate, snapshots };
  await new Sender(store, channel, sending, NOBODY, now).run();
}

async function sayHello(channel: Channel, store: string, wants: Wanted | null): Promise<void> {
  await channel.say(HELLO, { service: SERVICE, protocol: PROTOCOL, store, wants });
}

function checkHello({ service, protocol, store }: Record<string, unknown>, own: string): string {
  if (service !== SERVICE || !isUuid(store)) throw garbled('its hello lacks what belongs into one');
  if (protocol !== PROTOCOL)
    throw new StoreError(
      'UNSUPPORTED_FORMAT',
      'the other end is of another release; replicate between servers of the same one',
    );
  if (store === own)
    throw new StoreError('INVALID_ARGUMENT', 'that is this store itself; name the address of another one');
  return store;
}

/** @throws CORRUPTION */
function checkWanted(wants: unknown): Wanted {
  const { role, volume, as, id, rate, snapshots } = (wants ?? {}) as Omit<PullWanted, 'role'> & {
    role: unknown;
  };
  if (role === 'push') return { role };
  const terms = { address: '/socket', everyMs: 1000, rate, snapshots, id, peerVolume: as } as const;
  if (role !== 'pull' || feedProblem({ ...terms, direction: 'pull', volume }) !== undefined)
    throw garbled('it does not say what it wants');
  return { role, volume, as, id, rate, snapshots };
}
