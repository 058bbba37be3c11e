/**
 * What commands have in common: the store that the global options name, what they print to, and the door they go through.
 */

import fs from 'node:fs';
import path from 'node:path';
import type { Command } from 'commander';
import { addressOf, type ListenerAddress } from '../base/address.ts';
import { StoreError } from '../base/errors.ts';
import type { Door } from '../server/door.ts';
import { Output } from './output.ts';
import type { ReachOptions } from './reach-store.ts';
import { parseSize } from './size.ts';

export const STORE_DEFAULT = './coppice-data';

const ALIVE_MS = 60_000;

interface GlobalOptions {
  readonly store?: string;
  readonly json?: boolean;
}

export function directoryOf(program: Command): string {
  const { store } = program.opts<GlobalOptions>();
  if (store === '')
    throw new StoreError('INVALID_ARGUMENT', '--store is empty; name the directory of a store');
  const directory = path.resolve(store ?? (process.env.COPPICE_STORE || STORE_DEFAULT));
  if (fs.statSync(directory, { throwIfNoEntry: false })?.isDirectory() === false) {
    throw new StoreError('NOT_A_STORE', `${directory} is a file; name the directory of a store`);
  }
  return directory;
}

export function outputOf(program: Command): Output {
  return new Output(program.opts<GlobalOptions>().json === true);
}

export async function withDoor(
  program: Command,
  work: (door: Door, output: Output) => Promise<void>,
  how: ReachOptions = {},
): Promise<void> {
  const { reachStore } = await import('./reach-store.ts');
  const door = await reachStore(directoryOf(program), how);
  // The store's own timers keep no process alive, and work at a pace may wait for nothing else.
  const alive = setInterval(() => undefined, ALIVE_MS);
  try {
    await work(door, outputOf(program));
  } catch (error) {
    // A store that fails at its work may fail at closing too: the first failure is the one to tell.
    await door.close().catch(() => undefined);
    throw error;
  } finally {
    clearInterval(alive);
  }
  await door.close();
}

export const NO_SYNC = [
  '--no-sync',
  'do not wait for the disk: the change survives the server, not a power cut',
] as const;

export interface Sync {
  readonly sync: boolean;
}

/** Like `withDoor`, for a change: nothing is said before it is on the disk, unless it need not be. */
export async function withChange(
  program: Command,
  { sync }: Sync,
  work: (door: Door, output: Output) => Promise<void>,
): Promise<void> {
  await withDoor(program, async (door, output) => {
    const said: string[] = [];
    await work(door, new Output(output.json, (text) => said.push(text)));
    if (sync) await door.flush();
    output.raw(said.join(''));
  });
}

export function sizeOption(text: string | undefined, option: string): number | undefined {
  return text === undefined ? undefined : parseSize(text, option);
}

/** Where to listen; a path that begins with a dot is one from here. @throws INVALID_ARGUMENT */
export function addressOption(text: string, option: string): ListenerAddress {
  const address = addressOf(text.startsWith('.') ? path.resolve(text) : text);
  if (address !== undefined) return address;
  throw new StoreError(
    'INVALID_ARGUMENT',
    `${option} '${text}' is neither HOST:PORT nor the path of a socket`,
  );
}
