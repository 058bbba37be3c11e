/** Requests as fast as they are answered, and requests at a fixed rate whether they are answered or not. */

import { performance } from 'node:perf_hooks';
import { type Guest, QUEUE_DEPTH, type Slot } from './guest.ts';
import type { NextRequest } from './loads.ts';

/** After a refusal the next request of that slot waits so long: a guest does not write on at full speed either. */
const REFUSED_PAUSE_MS = 10;
/** Without an answer, or with nothing but refusals, for so long the run is given up. */
const SILENCE_MS_MAX = 60_000;
const REFUSALS_ONLY_MS_MAX = 20_000;
const WATCH_MS = 500;

/** A run that was given up: the store does not answer, or refuses everything. */
export class GivenUp extends Error {}

/** Keeps 32 requests in flight until `bytes` of payload have been written. @throws GivenUp */
export function saturate(guest: Guest, next: NextRequest, bytes: number): Promise<void> {
  const end = guest.writtenBytes + bytes;
  return new Promise((resolve, reject) => {
    let running = QUEUE_DEPTH;
    let isGivenUp = false;
    const watch = new Watch(guest, (error) => {
      isGivenUp = true;
      reject(error);
    });
    const step = (slot: Slot): void => {
      if (isGivenUp) return;
      if (guest.writtenBytes >= end) {
        running -= 1;
        if (running > 0) return;
        watch.end();
        resolve();
        return;
      }
      guest.issue(next(), slot, (isAnswered) => {
        if (isAnswered) step(slot);
        else setTimeout(step, REFUSED_PAUSE_MS, slot);
      });
    };
    for (const slot of guest.slots) step(slot);
  });
}

/**
 * Sends `perSecond` requests in each of so many seconds, evenly; one that finds 32 in flight waits. `note` gets how long
 * each write took from when it was due: what had to wait is not forgiven. @throws GivenUp
 *
 * The event loop spins meanwhile: timers are too coarse for thousands of requests in a second.
 */
export function pace(
  guest: Guest,
  next: NextRequest,
  perSecond: number,
  seconds: number,
  note: (us: number) => void,
): Promise<void> {
  const total = Math.floor(perSecond * seconds);
  const began = performance.now();
  return new Promise((resolve, reject) => {
    const free = [...guest.slots];
    let sent = 0;
    let isGivenUp = false;
    const watch = new Watch(guest, (error) => {
      isGivenUp = true;
      reject(error);
    });
    const send = (slot: Slot, due: number): void => {
      const request = next();
      guest.issue(request, slot, (isAnswered) => {
        if (isAnswered && request.kind === 'write') note(1000 * (performance.now() - due));
        free.push(slot);
      });
    };
    const turn = (): void => {
      if (isGivenUp) return;
      const now = performance.now();
      while (sent < total && free.length > 0) {
        const due = began + (1000 * sent) / perSecond;
        if (due > now) break;
        sent += 1;
        send(free.pop()!, due);
      }
      if (sent < total || free.length < QUEUE_DEPTH) {
        setImmediate(turn);
        return;
      }
      watch.end();
      resolve();
    };
    turn();
  });
}

/** Gives a run up when nothing comes of it any more. */
class Watch {
  readonly #timer: NodeJS.Timeout;

  constructor(guest: Guest, giveUp: (error: GivenUp) => void) {
    let [answered, answeredAt] = [guest.answered, performance.now()];
    let [written, writtenAt] = [guest.writtenBytes, answeredAt];
    this.#timer = setInterval(() => {
      const now = performance.now();
      if (guest.answered !== answered) [answered, answeredAt] = [guest.answered, now];
      if (guest.writtenBytes !== written) [written, writtenAt] = [guest.writtenBytes, now];
      const isSilent = now - answeredAt > SILENCE_MS_MAX;
      if (!isSilent && (now - writtenAt <= REFUSALS_ONLY_MS_MAX || answeredAt === writtenAt)) return;
      const codes = [...guest.refusals.keys()].join(', ');
      const why = isSilent
        ? `no request was answered for ${SILENCE_MS_MAX / 1000} s`
        : `nothing but refusals (${codes}) for ${REFUSALS_ONLY_MS_MAX / 1000} s`;
      this.end();
      giveUp(
        new GivenUp(`${why}, ${(guest.writtenBytes / 2 ** 20).toFixed(0)} MiB after the store was made`),
      );
    }, WATCH_MS);
  }

  end(): void {
    clearInterval(this.#timer);
  }
}
