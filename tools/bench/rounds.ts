// The rounds of a benchmark: in each, stage by stage, fresh servers and filled volumes, then each load on each peer in
// turn, in an order that rotates. A peer that fails is left out of the rest of its stage, and the failure is kept.

import { Contest } from './contest.ts';
import type { Kit } from './kit.ts';
import { groupLoads, type Load } from './loads.ts';
import type { Peer, PeerName } from './peer.ts';
import type { Sample } from './summary.ts';
import { type Sizes, type Stage, STAGES, volumeBytesOf } from './stages.ts';

export interface Plan {
  readonly peers: readonly Peer[];
  readonly loads: readonly Load[];
  readonly kit: Kit;
  readonly sizes: Sizes;
  readonly roundCount: number;
  readonly seconds: number;
  readonly pacedSeconds: number;
  /** Aborted when the benchmark is interrupted: what fails after that is no failure of a peer. */
  readonly interrupted: AbortSignal;
}

export interface Failure {
  round: number;
  peer: PeerName;
  load?: string;
  message: string;
}

export interface Outcome {
  samples: Sample[];
  failures: Failure[];
}

/** The peers of the plan that take part in a load. */
export function peersFor(peers: readonly Peer[], load: Load): Peer[] {
  const stage = STAGES.find(({ name }) => name === load.stage)!;
  return peers.filter(
    ({ name, snapshotsMax, snapshotsAtStart }) =>
      (load.peers ?? stage.peers).includes(name) && load.snapshots <= snapshotsMax - snapshotsAtStart,
  );
}

/** Measures everything in the plan; `progress` is told of each step. */
export async function runRounds(plan: Plan, progress: (line: string) => void): Promise<Outcome> {
  const outcome: Outcome = { samples: [], failures: [] };
  for (let round = 1; round <= plan.roundCount; round++) {
    for (const stage of STAGES) {
      const loads = plan.loads.filter((load) => load.stage === stage.name);
      if (loads.length > 0) await new StageRun(plan, stage, loads, round, outcome, progress).run();
    }
  }
  return outcome;
}

/** One stage of one round. */
class StageRun {
  readonly #plan: Plan;
  readonly #stage: Stage;
  readonly #loads: readonly Load[];
  readonly #round: number;
  readonly #outcome: Outcome;
  readonly #progress: (line: string) => void;
  readonly #contests = new Map<PeerName, Contest>();

  constructor(
    plan: Plan,
    stage: Stage,
    loads: readonly Load[],
    round: number,
    outcome: Outcome,
    progress: (line: string) => void,
  ) {
    this.#plan = plan;
    this.#stage = stage;
    this.#loads = loads;
    this.#round = round;
    this.#outcome = outcome;
    this.#progress = (line) => progress(`round ${round}: ${stage.name}: ${line}`);
  }

  async run(): Promise<void> {
    const { peers } = this.#plan;
    try {
      for (const peer of peers) {
        if (this.#loads.some((load) => peersFor([peer], load).length > 0)) await this.#enter(peer);
      }
      let turns = this.#round;
      for (const group of groupLoads(this.#loads)) {
        for (let turn = 0; turn < (group[0]?.repeats ?? 1); turn++) {
          for (const peer of rotate(peers, turns++)) {
            for (const load of group)
              if (peersFor([peer], load).length > 0) await this.#runLoad(peer, load, turn);
          }
        }
      }
    } finally {
      for (const [name, contest] of this.#contests)
        await contest.leave().catch((error: unknown) => this.#failed(name, error));
    }
  }

  async #enter(peer: Peer): Promise<void> {
    const { kit, sizes } = this.#plan;
    const entry = { peer, kit, stage: this.#stage, loads: this.#loads };
    this.#progress(`${peer.name}: begins`);
    try {
      const volumeBytes = volumeBytesOf(this.#stage, sizes);
      this.#contests.set(peer.name, await Contest.enter({ ...entry, volumeBytes }));
    } catch (error) {
      this.#failed(peer.name, error);
    }
  }

  async #runLoad(peer: Peer, load: Load, turn: number): Promise<void> {
    const contest = this.#contests.get(peer.name);
    if (contest === undefined) return;
    try {
      const seed = (this.#round * 100 + this.#loads.indexOf(load)) * 10 + turn;
      const options = { seconds: this.#secondsOf(load), seed, ...this.#paceOf(peer, load) };
      const figures = await contest.run(load, options);
      this.#outcome.samples.push({ round: this.#round, turn, load: load.name, peer: peer.name, ...figures });
      const value = figures.value.toFixed(load.unit === 's' ? 3 : 0);
      this.#progress(`${peer.name}: ${load.title}: ${value} ${load.unit}`);
    } catch (error) {
      this.#failed(peer.name, error, load);
      this.#contests.delete(peer.name);
      await contest.leave().catch((leaving: unknown) => this.#failed(peer.name, leaving));
    }
  }

  #secondsOf({ paced, secondsMax = Number.POSITIVE_INFINITY }: Load): number {
    return Math.min(paced === true ? this.#plan.pacedSeconds : this.#plan.seconds, secondsMax);
  }

  /** Variants of a peer go at its pace. */
  #paceOf(peer: Peer, { work }: Load): { rateIops?: number } {
    if (work.kind !== 'fio' || work.halfOf === undefined) return {};
    const paced = peer.variantOf ?? peer.name;
    const maximum = this.#outcome.samples.find(
      (sample) => sample.round === this.#round && sample.load === work.halfOf && sample.peer === paced,
    );
    if (maximum === undefined) throw new Error(`${paced} has not been measured: there is no pace to go at`);
    return { rateIops: Math.max(1, Math.floor(maximum.value / 2)) };
  }

  #failed(peer: PeerName, error: unknown, load?: Load): void {
    this.#plan.interrupted.throwIfAborted();
    const message = error instanceof Error ? error.message : String(error);
    const where = load === undefined ? {} : { load: load.name };
    this.#outcome.failures.push({ round: this.#round, peer, message, ...where });
    this.#progress(`${peer} FAILED${load === undefined ? '' : ` at ${load.name}`}: ${message}`);
  }
}

function rotate<T>(items: readonly T[], by: number): T[] {
  const start = by % items.length;
  return [...items.slice(start), ...items.slice(0, start)];
}
