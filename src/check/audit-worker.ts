/** The thread that an auditor starts: audits segments of the store's directory, one at a time. */

import { parentPort, workerData } from 'node:worker_threads';
import { StoreError } from '../base/errors.ts';
import { NodeStorage } from '../base/node-storage.ts';
import { requireGoingOn, serveRequests } from '../base/thread.ts';
import { type AuditAnswer, type AuditSetup, REPORT_BYTES } from './auditor.ts';
import { auditSegment } from './segment-audit.ts';

const { directory, uuid, payloads, stop } = workerData as AuditSetup;
const storage = new NodeStorage(directory);

serveRequests<number, AuditAnswer>(async (segment) => {
  let told = 0;
  const onBytes = (bytes: number): void => {
    requireGoingOn(stop);
    if (bytes - told < REPORT_BYTES) return;
    told = bytes;
    parentPort!.postMessage({ bytes } satisfies AuditAnswer);
  };
  try {
    return { audit: await auditSegment(storage, Buffer.from(uuid), segment, { payloads, onBytes }) };
  } catch (error) {
    if (error instanceof StoreError) return { code: error.code, message: error.message };
    throw error; // a programmer's mistake ends this thread, and is told to who waits
  }
});
