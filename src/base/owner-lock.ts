/**
 * The lock that makes one process the owner of a store: an open-file-description lock on `store.lock`.
 *
 * Why not LevelDB's: that is a POSIX record lock, which any open and close of its file in the same process drops.
 * This one belongs to the descriptor, survives reads of the file by the same process, and is gone with kill -9.
 * The file says who holds it, for whoever is refused; its text is never trusted for anything else.
 */

import fs from 'node:fs';
import lock from 'fs-native-extensions';
import { fromSystemError, StoreError } from './errors.ts';
import { isLockedElsewhere } from './libc.ts';

export interface Owner {
  readonly pid: number;
  /** ISO 8601. */
  readonly since: string;
}

export class OwnerLock {
  readonly owner: Owner;
  #descriptor: number;

  private constructor(descriptor: number, owner: Owner) {
    this.#descriptor = descriptor;
    this.owner = owner;
  }

  /** Takes the lock or is refused at once. @throws LOCKED (naming the owner), IO */
  static acquire(file: string, since: number): OwnerLock {
    let descriptor: number;
    try {
      descriptor = fs.openSync(file, fs.constants.O_RDWR | fs.constants.O_CREAT, 0o600);
    } catch (error) {
      throw fromSystemError(error, 'opening the lock of the store');
    }
    if (!lock.tryLock(descriptor)) {
      const holder = fs.readFileSync(descriptor, 'utf8');
      fs.closeSync(descriptor);
      throw new StoreError(
        'LOCKED',
        `the store is in use by ${describe(holder)}; stop it, or go through its server`,
      );
    }
    const owner = { pid: process.pid, since: new Date(since).toISOString() };
    fs.fchmodSync(descriptor, 0o600);
    fs.ftruncateSync(descriptor, 0);
    fs.writeSync(descriptor, `${JSON.stringify(owner)}\n`, 0);
    return new OwnerLock(descriptor, owner);
  }

  /**
   * Who has the lock, in words, without taking it; undefined if nobody has. Where the system does not tell, the text
   * of the file is believed. @throws IO
   */
  static holderOf(file: string): string | undefined {
    let descriptor: number;
    try {
      descriptor = fs.openSync(file, 'r');
    } catch (error) {
      if ((error as NodeJS.ErrnoException).code === 'ENOENT') return undefined;
      throw fromSystemError(error, 'opening the lock of the store');
    }
    try {
      const holder = fs.readFileSync(descriptor, 'utf8');
      return (isLockedElsewhere(descriptor) ?? holder !== '') ? describe(holder) : undefined;
    } finally {
      fs.closeSync(descriptor);
    }
  }

  release(): void {
    if (this.#descriptor < 0) return;
    fs.ftruncateSync(this.#descriptor, 0);
    fs.closeSync(this.#descriptor);
    this.#descriptor = -1;
  }
}

function describe(holder: string): string {
  try {
    const owner = JSON.parse(holder) as Owner;
    return `process ${owner.pid} since ${owner.since}`;
  } catch {
    return 'another process that is just starting or stopping';
  }
}
