/** Mistakes in replication by the server. No I/O. */

import type { Fault } from './fault.ts';

const inReplication = (name: string): string => `test/replication/${name}.test.ts`;
const FEEDS = inReplication('feeds');
const CUTS = inReplication('cuts');
const TLS = inReplication('tls');
const CLOCK = inReplication('clock');
const NEGOTIATION = inReplication('negotiation');

export const REPLICATION_FAULTS: readonly Fault[] = [
  {
    name: 'what is sent is not held while it is sent',
    file: 'src/replication/sender.ts',
    text: 'await this.#hold(target.uuid);\n    const sentBytes',
    replacement: 'const sentBytes',
    tests: [CUTS],
  },
  {
    name: 'what the other end has already is not held',
    file: 'src/replication/sender.ts',
    text: 'await this.#hold(target.uuid);\n    await this.#store.feeds.releaseOthers',
    replacement: 'await this.#store.feeds.releaseOthers',
    tests: [FEEDS],
  },
  {
    name: 'a receive whose volume was deleted is gone on with',
    file: 'src/replication/negotiation.ts',
    text: '!each.volumeGone &&',
    replacement: '',
    tests: ['test/replication/negotiation.test.ts'],
  },
  {
    name: 'a replica does not hold what it has received',
    file: 'src/replication/receiver.ts',
    text: "await feeds.hold(newest.uuid, owner, 'the newest that the store it came from has too');",
    replacement: '',
    tests: [FEEDS],
  },
  {
    name: 'holds of before are never released',
    file: 'src/volume/feed-changes.ts',
    text: 'if (uuid !== kept) await',
    replacement: 'if (uuid === null) await',
    tests: [FEEDS],
  },
  {
    name: 'a feed that was ended goes on holding',
    file: 'src/volume/catalog.ts',
    text: 'each.holds = without(each.holds, feedOwner(change.id));',
    replacement: 'each.holds = without(each.holds, change.id);',
    tests: [FEEDS],
  },
  {
    name: 'a snapshot that somebody made is deleted when a newer one has arrived',
    file: 'src/replication/sender.ts',
    text: "if (madeBy !== 'target' || holds.length > 0) continue;",
    replacement: 'if (holds.length > 0) continue;',
    tests: [FEEDS],
  },
  {
    name: 'feeds are lost when the catalog is written anew',
    file: 'src/volume/catalog-parts.ts',
    text: "yield* inParts('feeds', catalog.feeds.all());",
    replacement: '',
    tests: [FEEDS],
  },
  {
    name: 'a volume that goes its own way is taken for a replica',
    file: 'src/replication/receiver.ts',
    text: 'if (!there.replica)',
    replacement: "if (there.name === '')",
    tests: [FEEDS],
  },
  {
    name: 'a receive that was cut off begins anew',
    file: 'src/replication/receiver.ts',
    text: 'const position = goesOn?.position ?? 0;',
    replacement: 'const position = 0;',
    tests: [CUTS],
  },
  {
    name: 'what has come before the connection broke is not kept',
    file: 'src/replication/receiver.ts',
    text: 'if (reception.isUnderWay) await reception.keepPosition().catch(() => undefined);',
    replacement: '',
    tests: [CUTS],
  },
  {
    name: 'receives that nobody can go on with stay',
    file: 'src/replication/receiver.ts',
    text: 'for (const useless of choice.useless)',
    replacement: 'for (const useless of choice.useless.slice(1))',
    tests: [CUTS],
  },
  {
    name: 'a rate is not kept to',
    file: 'src/replication/sender.ts',
    text: 'sending.rate === null ? undefined : new Rate(sending.rate)',
    replacement: 'sending.rate === null ? undefined : new Rate(1e12)',
    tests: [CUTS],
  },
  {
    name: 'a base may have another size than at the other end',
    file: 'src/replication/negotiation.ts',
    text: 'if (sizes.get(uuid) !== each.size ||',
    replacement: 'if (!sizes.has(uuid) ||',
    tests: [NEGOTIATION],
  },
  {
    name: 'any common snapshot is the base, not the newest',
    file: 'src/replication/negotiation.ts',
    text: '|| orderOf(uuid) <= orderOf(common)) continue;',
    replacement: ') continue;',
    tests: [NEGOTIATION],
  },
  {
    name: 'a receive goes on that is older than what there is',
    file: 'src/replication/negotiation.ts',
    text: 'orderOf(each.target) > newestHere &&',
    replacement: 'orderOf(each.target) >= 0 &&',
    tests: [NEGOTIATION],
  },
  {
    name: 'a silent connection is waited on for ever',
    file: 'src/replication/channel.ts',
    text: 'const SILENCE_MS_MAX = 30_000;',
    replacement: 'const SILENCE_MS_MAX = 30_000_000;',
    tests: [CLOCK],
  },
  {
    name: 'what fails is tried again at once, for ever',
    file: 'src/replication/back-off.ts',
    text: 'WAIT_MS_MIN * 2 ** Math.min(failures - 1, 30)',
    replacement: 'WAIT_MS_MIN',
    tests: [CLOCK],
  },
  {
    name: 'a clock that was put back holds up a feed',
    file: 'src/replication/replicator.ts',
    text: 'work.dueAt = Math.min(work.dueAt, now + work.waitMs);',
    replacement: '',
    tests: [CLOCK],
  },
  {
    name: 'a message may be as long as it says',
    file: 'src/replication/messages.ts',
    text: 'if (bytes === 0 || bytes > (kind === STREAM ? PIECE_BYTES_MAX : JSON_BYTES_MAX))',
    replacement: 'if (bytes === 0)',
    tests: [inReplication('messages')],
  },
  {
    name: 'another machine is sent to without TLS',
    file: 'src/replication/dial.ts',
    text: 'if (!isInsecure && !isOfThisMachine(where))',
    replacement: 'if (!isInsecure && where.port === 0)',
    tests: [TLS],
  },
  {
    name: 'other machines are listened to without TLS',
    file: 'src/replication/listener.ts',
    text: 'if (this.#tls === undefined && !this.#options.isInsecure && !isOfThisMachine(address))',
    replacement: 'if (this.#tls === undefined && address.port < 0)',
    tests: [TLS],
  },
  {
    name: 'a server may show any certificate',
    file: 'src/tls/client.ts',
    text: 'rejectUnauthorized: true',
    replacement: 'rejectUnauthorized: false',
    tests: [TLS],
  },
  {
    name: 'a receive keeps a position behind a frame that failed',
    file: 'src/volume/reception.ts',
    text: 'place.isDone = true;',
    replacement: 'for (const each of this.#underWay) each.isDone = true;',
    tests: ['test/volume/reception.test.ts'],
  },
  {
    name: 'a receive keeps its position only when much has come',
    file: 'src/volume/reception.ts',
    text: ' || performance.now() - this.#keptAt >= KEPT_MS;',
    replacement: ' || this.#keptAt + KEPT_MS < 0;',
    tests: ['test/volume/reception.test.ts'],
  },
  {
    name: 'snapshots pile up that a target refuses',
    file: 'src/replication/sender.ts',
    text: 'snapshots.filter(({ uuid }) => uuid === refused),',
    replacement: 'snapshots.filter(({ uuid }) => uuid === refused && uuid === undefined),',
    tests: ['test/replication/feeds.test.ts'],
  },
  {
    name: 'the lag of a replica that has all grows',
    file: 'src/volume/feed-changes.ts',
    text: 'Math.max(last.created, currentAt ?? 0)',
    replacement: 'Math.max(last.created, currentAt === -1 ? 1 : 0)',
    tests: ['test/replication/feeds.test.ts'],
  },
];
