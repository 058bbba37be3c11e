/** Audits segments one behind the other, beside whatever else there is to do, and says how far that has come. */

import type { Storage } from '../base/storage.ts';
import { segmentPath } from '../log/format.ts';
import type { Auditor } from './auditor.ts';
import type { SegmentAudit } from './segment-audit.ts';

/** Bytes of segment files that have been read, of how many. */
export interface CheckStep {
  readonly doneBytes: number;
  readonly totalBytes: number;
}

export type CheckObserver = (step: CheckStep) => void;

export interface AuditRunOptions {
  readonly onProgress?: CheckObserver | undefined;
  readonly signal?: AbortSignal | undefined;
}

export class AuditRun {
  readonly #auditor: Auditor;
  readonly #running: Promise<Map<number, SegmentAudit>>;
  #isStopped = false;

  private constructor(
    auditor: Auditor,
    sizes: ReadonlyMap<number, number>,
    observe: CheckObserver,
    signal: AbortSignal | undefined,
  ) {
    this.#auditor = auditor;
    this.#running = this.#run(sizes, observe, signal);
    this.#running.catch(() => undefined); // told to who asks for the results
  }

  static async begin(
    storage: Storage,
    auditor: Auditor,
    segments: readonly number[],
    { onProgress = () => undefined, signal }: AuditRunOptions = {},
  ): Promise<AuditRun> {
    const sizes = new Map<number, number>();
    for (const segment of segments) sizes.set(segment, await sizeOf(storage, segment));
    return new AuditRun(auditor, sizes, onProgress, signal);
  }

  async #run(
    sizes: ReadonlyMap<number, number>,
    observe: CheckObserver,
    signal: AbortSignal | undefined,
  ): Promise<Map<number, SegmentAudit>> {
    const audits = new Map<number, SegmentAudit>();
    const totalBytes = [...sizes.values()].reduce((sum, bytes) => sum + bytes, 0);
    let doneBytes = 0;
    for (const [segment, bytes] of sizes) {
      if (this.#isStopped) break;
      signal?.throwIfAborted();
      const audit = await this.#auditor.audit(segment, (into) => {
        observe({ doneBytes: doneBytes + Math.min(into, bytes), totalBytes });
      });
      if (audit !== undefined) audits.set(segment, audit);
      doneBytes += bytes;
      observe({ doneBytes, totalBytes });
    }
    return audits;
  }

  /** By segment, those whose files are there. @throws IO */
  results(): Promise<ReadonlyMap<number, SegmentAudit>> {
    return this.#running;
  }

  async end(): Promise<void> {
    this.#isStopped = true;
    await this.#auditor.close();
  }
}

/** 0 if it is gone. */
async function sizeOf(storage: Storage, segment: number): Promise<number> {
  const file = await storage.open(segmentPath(segment), 'read').catch(() => undefined);
  try {
    return (await file?.sizeBytes()) ?? 0;
  } finally {
    await file?.close();
  }
}
