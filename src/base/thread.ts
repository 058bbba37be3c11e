/**
 * Threads that end by themselves. One that is terminated while it is inside an addon can take the process with it (koffi
 * does, while it is being loaded: measured), so a thread is told to stop, and looks whether it was between two steps.
 */

import os from 'node:os';
import { parentPort, type Worker } from 'node:worker_threads';
import { StoreError } from './errors.ts';

/** A word that both sides see: not 0 once the thread is to stop. */
export type StopWord = Int32Array<SharedArrayBuffer>;

const END = 'end';
/** A thread that hangs in a system call for longer is terminated all the same. */
const END_MS_MAX = 2000;

export function newStopWord(): StopWord {
  return new Int32Array(new SharedArrayBuffer(Int32Array.BYTES_PER_ELEMENT));
}

/** In the thread: others of this machine, and of this process, get the processor first; where that is allowed. */
export function giveWay(): void {
  // Elsewhere than in Linux a priority is that of the whole process.
  if (process.platform !== 'linux') return;
  const { PRIORITY_BELOW_NORMAL } = os.constants.priority;
  try {
    if (os.getPriority(0) < PRIORITY_BELOW_NORMAL) os.setPriority(0, PRIORITY_BELOW_NORMAL);
  } catch {
    // A filter of system calls, such as that of our unit file, has it go on as it is.
  }
}

/** In the thread, between two steps. @throws CLOSED */
export function requireGoingOn(stop: StopWord): void {
  if (Atomics.load(stop, 0) !== 0) throw new StoreError('CLOSED', 'the thread was told to stop');
}

/** In the thread: answers each request that its owner posts, until it is told to end. */
export function serveRequests<Request, Answer>(answer: (request: Request) => Promise<Answer>): void {
  const port = parentPort!;
  port.on('message', (request: Request | typeof END) => {
    if (request === END) port.close();
    else void answer(request).then((reply) => port.postMessage(reply));
  });
}

/** Resolves when the thread is gone. */
export async function endThread(worker: Worker, stop: StopWord): Promise<void> {
  const gone = new Promise<void>((resolve) => worker.once('exit', () => resolve()));
  worker.ref();
  Atomics.store(stop, 0, 1);
  worker.postMessage(END);
  const timer = setTimeout(() => void worker.terminate(), END_MS_MAX);
  await gone;
  clearTimeout(timer);
}
