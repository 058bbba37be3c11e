/**
 * A mover in a thread of its own, so that reading, verifying, sorting and writing take no time from the event loop. The
 * thread is started when it is first needed, and does not keep the process alive.
 */

import { Worker } from 'node:worker_threads';
import { type ErrorCode, StoreError } from '../base/errors.ts';
import { endThread, newStopWord, type StopWord } from '../base/thread.ts';
import type { Found, Moved, MoveRequest, Mover, Victim } from './mover.ts';

export interface WorkerSetup {
  readonly directory: string;
  readonly uuid: Uint8Array;
  readonly stop: StopWord;
}

export type WorkerRequest =
  | { readonly kind: 'find'; readonly victims: readonly Victim[] }
  | { readonly kind: 'move'; readonly request: MoveRequest };

export interface WorkerAnswer {
  readonly found?: Found;
  readonly moved?: Moved;
  readonly code?: ErrorCode;
  readonly message?: string;
}

export class WorkerMover implements Mover {
  readonly #setup: WorkerSetup;
  #worker: Worker | undefined;
  #isClosed = false;

  constructor(directory: string, uuid: Buffer) {
    this.#setup = { directory, uuid, stop: newStopWord() };
  }

  async find(victims: readonly Victim[]): Promise<Found> {
    return (await this.#ask({ kind: 'find', victims })).found!;
  }

  async move(request: MoveRequest): Promise<Moved> {
    return (await this.#ask({ kind: 'move', request })).moved!;
  }

  /** Requires: nothing else is being asked. */
  async #ask(request: WorkerRequest): Promise<WorkerAnswer> {
    if (this.#isClosed) throw new StoreError('CLOSED', 'the store is closed');
    const worker = this.#started();
    worker.ref(); // who waits for the answer wants it
    try {
      const answer = await new Promise<WorkerAnswer>((resolve, reject) => {
        const ended = (code: number): void =>
          reject(
            this.#isClosed
              ? new StoreError('CLOSED', 'the store is closed')
              : new StoreError('IO', `the thread of compaction ended with ${code}`),
          );
        worker.once('exit', ended);
        worker.once('error', reject);
        worker.once('message', (reply: WorkerAnswer) => {
          worker.off('exit', ended);
          worker.off('error', reject);
          resolve(reply);
        });
        worker.postMessage(request);
      });
      if (answer.code !== undefined) throw new StoreError(answer.code, answer.message!);
      return answer;
    } finally {
      worker.unref();
    }
  }

  #started(): Worker {
    if (this.#worker !== undefined) return this.#worker;
    const worker = new Worker(new URL('./move-worker.js', import.meta.url), { workerData: this.#setup });
    const gone = (): void => {
      if (this.#worker === worker) this.#worker = undefined;
    };
    worker.on('exit', gone);
    worker.on('error', gone);
    worker.unref();
    this.#worker = worker;
    return worker;
  }

  /** Ends the thread at its next step: what it leaves behind is of no use to anybody. */
  async close(): Promise<void> {
    this.#isClosed = true;
    if (this.#worker !== undefined) await endThread(this.#worker, this.#setup.stop);
  }
}
