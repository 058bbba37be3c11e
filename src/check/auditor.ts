/** Who audits segments: this thread, or one of its own, so that reading and checksums take no time from it. */

import { Worker } from 'node:worker_threads';
import { type ErrorCode, StoreError } from '../base/errors.ts';
import { NodeStorage } from '../base/node-storage.ts';
import { endThread, newStopWord, type StopWord } from '../base/thread.ts';
import type { Storage } from '../base/storage.ts';
import { auditSegment, type SegmentAudit } from './segment-audit.ts';

/** Bytes between two reports of a thread. */
export const REPORT_BYTES = 4 << 20;

export interface Auditor {
  /** `onBytes` is told how far into the file it has come. undefined if there is no such file. @throws IO */
  audit(segment: number, onBytes: (bytes: number) => void): Promise<SegmentAudit | undefined>;
  close(): Promise<void>;
}

export interface AuditSetup {
  readonly directory: string;
  readonly uuid: Uint8Array;
  readonly payloads: boolean;
  readonly stop: StopWord;
}

export interface AuditAnswer {
  readonly bytes?: number;
  readonly audit?: SegmentAudit | undefined;
  readonly code?: ErrorCode;
  readonly message?: string;
}

/** A thread where there are real files, and this runs as it was built. */
export function makeAuditor(storage: Storage, uuid: Buffer, payloads: boolean): Auditor {
  const isReal = storage instanceof NodeStorage && import.meta.url.endsWith('.js');
  if (isReal && payloads) {
    const stop = newStopWord();
    return new WorkerAuditor({ directory: storage.nativePath('.'), uuid, payloads, stop });
  }
  return {
    audit: (segment, onBytes) => auditSegment(storage, uuid, segment, { payloads, onBytes }),
    close: async () => undefined,
  };
}

class WorkerAuditor implements Auditor {
  readonly #worker: Worker;
  readonly #stop: StopWord;
  #failure: unknown;
  #fail: ((error: unknown) => void) | undefined;
  #take: ((answer: AuditAnswer) => void) | undefined;

  constructor(setup: AuditSetup) {
    this.#stop = setup.stop;
    this.#worker = new Worker(new URL('./audit-worker.js', import.meta.url), { workerData: setup });
    const failed = (error: unknown): void => {
      this.#failure ??= error;
      this.#fail?.(error);
    };
    this.#worker.on('error', failed);
    this.#worker.on('exit', (code) =>
      failed(new StoreError('IO', `the thread of the check ended with ${code}`)),
    );
    this.#worker.on('message', (answer: AuditAnswer) => this.#take?.(answer));
  }

  /** One at a time. */
  async audit(segment: number, onBytes: (bytes: number) => void): Promise<SegmentAudit | undefined> {
    if (this.#failure !== undefined) throw this.#failure;
    const answer = await new Promise<AuditAnswer>((resolve, reject) => {
      this.#fail = reject;
      this.#take = (each) => {
        if (each.bytes === undefined) resolve(each);
        else onBytes(each.bytes);
      };
      this.#worker.postMessage(segment);
    });
    if (answer.code !== undefined) throw new StoreError(answer.code, answer.message!);
    return answer.audit;
  }

  async close(): Promise<void> {
    this.#fail = undefined;
    // One that failed is gone.
    if (this.#failure === undefined) await endThread(this.#worker, this.#stop);
  }
}
