/**
 * The thread that a `WorkerMover` starts: a `SegmentMover` over the store's directory, one request at a time. It gives way to
 * whoever serves requests.
 */

import { workerData } from 'node:worker_threads';
import { NodeStorage } from '../base/node-storage.ts';
import { StoreError } from '../base/errors.ts';
import { giveWay, requireGoingOn, serveRequests } from '../base/thread.ts';
import { SegmentMover } from './mover.ts';
import type { WorkerAnswer, WorkerRequest, WorkerSetup } from './worker-mover.ts';

const { directory, uuid, stop } = workerData as WorkerSetup;
giveWay();
const mover = new SegmentMover(new NodeStorage(directory), Buffer.from(uuid), () => requireGoingOn(stop));

serveRequests<WorkerRequest, WorkerAnswer>(async (request) => {
  try {
    if (request.kind === 'find') return { found: await mover.find(request.victims) };
    return { moved: await mover.move(request.request) };
  } catch (error) {
    if (error instanceof StoreError) return { code: error.code, message: error.message };
    throw error; // a programmer's mistake ends this thread, and is told to who waits
  }
});
