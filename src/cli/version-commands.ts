/**
 * The commands that are one request and one answer: create, snapshot, clone, list, tree, show, status. No storage
 * logic: names and sizes are judged by the store.
 */

import type { Door } from '../server/door.ts';
import type { StoreStatus, VersionSummary } from '../volume/summary.ts';
import type { Output } from './output.ts';
import { formatSize } from './size.ts';
import { drawFields, drawTable } from './table.ts';
import { drawTree, growTree } from './version-tree.ts';

export async function createVolume(
  door: Door,
  output: Output,
  name: string,
  sizeBytes: number,
): Promise<void> {
  const volume = await door.create(name, sizeBytes);
  output.print(volume, () => `created volume ${volume.name}, ${formatSize(volume.size)}\n`);
}

export async function takeSnapshot(door: Door, output: Output, names: readonly string[]): Promise<void> {
  const snapshots = await door.snapshot(names);
  output.print(snapshots, () => snapshots.map(({ name }) => `took snapshot ${name}\n`).join(''));
}

export async function cloneSnapshot(door: Door, output: Output, source: string, name: string): Promise<void> {
  const volume = await door.clone(source, name);
  output.print(volume, () => `created volume ${volume.name} as a clone of ${source}\n`);
}

export async function listVersions(door: Door, output: Output): Promise<void> {
  const versions = await door.list();
  output.print(versions.map(listed), () => drawList(versions));
}

export async function showTree(door: Door, output: Output): Promise<void> {
  const roots = growTree(await door.list());
  output.print(roots, () => (roots.length === 0 ? NO_VOLUME : drawTree(roots)));
}

export async function showVersion(door: Door, output: Output, name: string): Promise<void> {
  const version = await door.show(name);
  output.print(version, () =>
    drawFields([
      ['name', version.name],
      ['kind', version.kind],
      ['size', exactSize(version.size)],
      ['created', version.created],
      ['parent', version.parent ?? 'none'],
      ['uuid', version.uuid],
    ]),
  );
}

export async function showStatus(door: Door, output: Output): Promise<void> {
  const status = await door.status();
  output.print(status, () => drawStatus(status));
}

const NO_VOLUME = 'no volume yet; create one with: coppice create disk --size 20G\n';

/** The fields that `list --json` promises, in their order. */
function listed({ name, kind, uuid, size, created, parent }: VersionSummary): VersionSummary {
  return { name, kind, uuid, size, created, parent };
}

function drawList(versions: readonly VersionSummary[]): string {
  if (versions.length === 0) return NO_VOLUME;
  return drawTable(
    ['NAME', 'KIND', 'SIZE', 'CREATED', 'PARENT'],
    versions.map(({ name, kind, size, created, parent }) => [
      name,
      kind,
      formatSize(size),
      created,
      parent ?? '-',
    ]),
  );
}

function drawStatus(status: StoreStatus): string {
  const { owner, lastCheckpoint, cache } = status;
  const who = owner.pid === process.pid ? 'this command: no server is running' : `process ${owner.pid}`;
  return drawFields([
    ['store', status.uuid],
    ['state', status.state === 'open' ? 'open' : 'poisoned: a sync failed; reads only until it is reopened'],
    ['owner', owner.pid === process.pid ? who : `${who} since ${owner.since}`],
    ['format revision', String(status.formatRevision)],
    ['volumes', String(status.volumes)],
    ['snapshots', String(status.snapshots)],
    ['log', exactSize(status.logBytes)],
    ['live', exactSize(status.liveBytes)],
    ['segments', `${status.segments} of at most ${formatSize(status.segmentBytes)}`],
    [
      'capacity',
      status.capacityBytes === null ? 'as large as the file system' : exactSize(status.capacityBytes),
    ],
    [
      'last checkpoint',
      `number ${lastCheckpoint.generation}, ${lastCheckpoint.at ?? 'none since it was opened'}`,
    ],
    ['cache', `${formatSize(cache.usedBytes)} of ${formatSize(cache.boundBytes)}`],
  ]);
}

function exactSize(bytes: number): string {
  return bytes < 1024 ? formatSize(bytes) : `${formatSize(bytes)} (${bytes} bytes)`;
}
