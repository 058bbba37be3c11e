/**
 * Volumes, snapshots and versions that do not hold together, planted in records that have their checksums: each kind, and what the
 * checker must say of it.
 */

import { expect } from 'vitest';
import type { CatalogPart } from '../../src/volume/catalog-parts.ts';
import { scheduleOf } from '../schedule/rules.ts';
import type { Damages, Expected } from './damaged-store.ts';

type Change = (catalog: Required<CatalogPart>) => void;
const says = (text: string): string => expect.stringContaining(text) as string;
const FEED = {
  id: 'f',
  direction: 'push',
  peerVolume: 'there',
  everyMs: 1000,
  rate: null,
  snapshots: 'made',
} as const;

const CATALOGS: [what: string, change: Change, expected: readonly Expected[]][] = [
  [
    'a version below one that there is not',
    ({ versions }) => void (versions.at(-1)![1] = 5),
    [{ code: 'TREE_DAMAGED', message: says('version 7 stands below 5, which there is not'), mend: 'repair' }],
  ],
  [
    'a version below one that is younger',
    ({ versions }) => void (versions[0]![1] = 6),
    [{ code: 'TREE_DAMAGED', message: says('version 1 stands below 6, which is younger') }],
  ],
  [
    'two versions with one label',
    ({ versions }) => void versions.push([...versions[0]!]),
    [{ code: 'TREE_DAMAGED', message: says('two versions 1') }],
  ],
  [
    'a volume whose version there is not',
    ({ volumes }) => void (volumes[0]!.label = 5),
    [{ code: 'TREE_DAMAGED', message: says('is version 5, which there is not') }],
  ],
  [
    'a snapshot of a volume that there is not',
    ({ snapshots }) => void (snapshots[0]!.volume = 'nobody'),
    [{ code: 'TREE_DAMAGED', message: says('of a volume nobody, which there is not') }],
  ],
  [
    'a version that can be named and is deleted',
    ({ versions }) => void versions.splice(1, 1, [2, 1, 123, 140]),
    [
      { code: 'TREE_DAMAGED', message: says('version 2 can be named, and is said to be deleted') },
      'CATALOG_DIFFERS',
      'CATALOG_DIFFERS',
    ],
  ],
  [
    'two volumes with one name',
    ({ volumes }) => void (volumes[1]!.name = 'a'),
    ['NAME_DAMAGED', 'CATALOG_DIFFERS', 'CATALOG_DIFFERS', 'CATALOG_DIFFERS', 'CATALOG_DIFFERS'],
  ],
  [
    'two snapshots with one name',
    ({ snapshots }) => void (snapshots[1]!.name = '1'),
    ['NAME_DAMAGED', 'CATALOG_DIFFERS', 'CATALOG_DIFFERS'],
  ],
  [
    'a volume and a snapshot with one version',
    ({ volumes, snapshots }) => void (volumes[2]!.label = snapshots[1]!.label),
    [{ code: 'NAME_DAMAGED', message: says('is the version of two') }, 'CATALOG_DIFFERS'],
  ],
  [
    'a version that waits for the end of its delete, and is not deleted',
    ({ pending }) => void pending.push(4),
    [{ code: 'DELETE_DAMAGED', message: says('version 4 waits'), mend: 'repair' }],
  ],
  [
    'a version that was taken over, and is there',
    ({ merged }) => void merged.push([1, 4, 12]),
    [{ code: 'MERGE_DAMAGED', message: says('version 1 was taken over by 4, and is there') }],
  ],
  [
    'a version that was taken over by an older one',
    ({ merged }) => void merged.push([5, 2, 12]),
    [{ code: 'MERGE_DAMAGED', message: says('by 2, which is older') }],
  ],
  [
    'a segment that is in use and retired',
    ({ retired }) => void retired.push([11, 12]),
    [{ code: 'LEDGER_DAMAGED', message: says('segment 11 is stated as in use, and as retired') }],
  ],
  [
    'a segment that the newest catalog states, and that there is not',
    ({ segments }) => void segments.push([999, 999]),
    [{ code: 'SEGMENT_MISSING', segment: 999 }],
  ],
  [
    'a snapshot that the newest catalog has forgotten',
    ({ snapshots }) => void snapshots.pop(),
    [{ code: 'CATALOG_DIFFERS', message: says('snapshot a@2 is missing in the catalog'), mend: 'repair' }],
  ],
  [
    'a volume that no change has made',
    ({ volumes, versions }) => {
      versions.push([8, 0, 200]);
      volumes.push({ ...volumes[0]!, uuid: 'new', name: 'new', label: 8 });
    },
    [{ code: 'CATALOG_DIFFERS', message: says('volume new is in the catalog, and no change has made it') }],
  ],
  [
    'a schedule that no change has set',
    ({ volumes }) => void (volumes[1]!.schedule = scheduleOf({ daily: 7 })),
    [{ code: 'CATALOG_DIFFERS', message: says('volume b is not in the catalog as changes have made it') }],
  ],
  [
    'a size that no change has made',
    ({ volumes }) => void (volumes[1]!.size = 1 << 20),
    [{ code: 'CATALOG_DIFFERS', message: says('volume b is not in the catalog as changes have made it') }],
  ],
];

/** The text of a change, from the UUIDs of volume `a` and snapshot `a@1`. */
type Text = (volume: string, snapshot: string) => unknown;

const CHANGES: [what: string, text: Text, expected: readonly Expected[]][] = [
  [
    'that is no JSON',
    () => undefined,
    [{ code: 'CHANGE_UNUSABLE', message: says('no JSON'), mend: 'repair' }],
  ],
  [
    'of an unknown kind',
    () => ({ op: 'frobnicate' }),
    [{ code: 'CHANGE_UNUSABLE', message: says('unknown kind') }],
  ],
  [
    'of a volume that there is not',
    () => ({ op: 'resize', at: 1, volume: 'nobody', size: 4096, cut: null }),
    [{ code: 'CHANGE_UNUSABLE', message: says('there is no volume nobody') }],
  ],
  [
    'of a snapshot that there is not',
    () => ({ op: 'delete', at: 1, volumes: [], snapshots: [99] }),
    [{ code: 'CHANGE_UNUSABLE', message: says('there is no snapshot 99') }],
  ],
  [
    'that makes a version that there is',
    () => ({ op: 'create', at: 1, volume: 'u', name: 'new', size: 4096, label: 2 }),
    [{ code: 'CHANGE_UNUSABLE', message: says('there is a version 2 already') }],
  ],
  [
    'that clones a version that there is not',
    () => ({ op: 'clone', at: 1, from: 99, volume: 'u', name: 'new', size: 4096, label: 100 }),
    [{ code: 'CHANGE_UNUSABLE', message: says('there is no version 99') }],
  ],
  [
    'that makes a volume with a name that is taken',
    () => ({ op: 'create', at: 1, volume: 'u', name: 'a', size: 4096, label: 8 }),
    [{ code: 'CHANGE_UNUSABLE', message: says('there is a volume a already') }],
  ],
  [
    'that gives a volume a name that is none',
    (volume) => ({ op: 'rename', at: 1, of: volume, name: 'no name' }),
    [{ code: 'NAME_DAMAGED', message: says('"no name" is no name of a volume'), mend: 'repair' }],
  ],
  [
    'that gives a volume a size that is none',
    (volume) => ({ op: 'resize', at: 1, volume, size: 1000, cut: null }),
    [{ code: 'NAME_DAMAGED', message: says('"a" has the size 1000') }],
  ],
  [
    'that holds a snapshot for nobody',
    (_, snapshot) => ({ op: 'hold', at: 1, snapshot, owner: '', reason: null, until: null }),
    [{ code: 'HOLD_DAMAGED', message: says('"a@1": a hold has the owner ""'), mend: 'repair' }],
  ],
  [
    'that holds a snapshot until no time',
    (_, snapshot) => ({ op: 'hold', at: 1, snapshot, owner: 'me', reason: null, until: 'never' }),
    [{ code: 'HOLD_DAMAGED', message: says('the hold of "me" has no time') }],
  ],
  [
    'that gives a snapshot a priority that is none',
    (_, snapshot) => ({ op: 'priority', at: 1, snapshot, priority: 500 }),
    [{ code: 'HOLD_DAMAGED', message: says('has the priority 500') }],
  ],
  [
    'that sets a schedule that is none',
    (volume) => ({ op: 'schedule', at: 1, volume, schedule: { since: 1, rules: 'daily' } }),
    [{ code: 'SCHEDULE_DAMAGED', message: says('the schedule of "a" is none'), mend: 'repair' }],
  ],
  [
    'that sets the schedule of a volume that there is not',
    () => ({ op: 'schedule', at: 1, volume: 'nobody', schedule: null }),
    [{ code: 'CHANGE_UNUSABLE', message: says('there is no volume nobody') }],
  ],
  [
    'that replicates a volume to no address',
    (volume) => ({ op: 'feed', at: 1, feed: { ...FEED, volume, address: 'nowhere' } }),
    [{ code: 'FEED_DAMAGED', message: says('feed "f" cannot be'), mend: 'repair' }],
  ],
  [
    'that goes on in a version of another volume, which is a head',
    (volume) => ({ op: 'rollback', at: 1, volume, to: 4, size: 1 << 22, label: 8, saved: null }),
    ['TREE_DAMAGED', 'NUMBERS_BEHIND', 'UNFINISHED_DELETE'],
  ],
];

export const CATALOG_DAMAGES: Damages = CATALOGS.map(([what, change, expected]) => [
  what,
  async (store) => {
    await store.appendCatalog(change);
    return expected;
  },
]);

export const CHANGE_DAMAGES: Damages = CHANGES.map(([what, text, expected]) => [
  what,
  async (store) => {
    const { volumes, snapshots } = await store.newestCatalog();
    const json = JSON.stringify(text(volumes[0]!.uuid, snapshots[0]!.uuid));
    await store.appendChange(json ?? '{"op":');
    return expected;
  },
]);
