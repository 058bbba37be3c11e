/** The commands about who writes a volume: promote, demote. What is refused, and why, is for the store to say. */

import type { Door } from '../server/door.ts';
import type { DemoteOptions } from '../volume/roles.ts';
import type { Output } from './output.ts';

export async function promote(door: Door, output: Output, name: string): Promise<void> {
  const volume = await door.promote(name);
  output.print(
    volume,
    () => `${volume.name} is no replica any more; clients can write it when they reconnect\n`,
  );
}

export async function demote(
  door: Door,
  output: Output,
  name: string,
  options: DemoteOptions,
): Promise<void> {
  const demoted = await door.demote(name, options);
  const { volume, saved } = demoted;
  const kept = saved === null ? 'all that it has is in its snapshots' : `what no snapshot had is ${saved}`;
  output.print(demoted, () => `${volume.name} is a replica now; ${kept}\n`);
}
