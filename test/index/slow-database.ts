/** A database whose answers come late: so that loads and commits overtake each other in ways that LevelDB allows. */

import type { IndexDatabase } from '../../src/index/directory.ts';
import type { Random } from '../support/random.ts';

export function ticks(count: number): Promise<void> {
  return new Promise((resolve) => {
    const step = (left: number): void => {
      if (left === 0) resolve();
      else setImmediate(step, left - 1);
    };
    step(count);
  });
}

type Call = (...args: unknown[]) => unknown;

type WatchedCall = 'get' | 'getMany' | 'iterator' | 'write';

/** What a test watches and holds up. */
export interface Watch {
  /** Before a call reaches the database; `write` is that of a batch. */
  before?(call: WatchedCall, args: unknown[]): Promise<void> | void;
  /** Before its answer is given back; of an iterator, behind its last row. */
  after?(call: WatchedCall, args: unknown[]): Promise<void> | void;
}

export function watched(database: IndexDatabase, watch: Watch): IndexDatabase {
  const wrapIterator = (call: Call) =>
    async function* rows(...args: unknown[]): AsyncGenerator<unknown> {
      await watch.before?.('iterator', args);
      yield* call(...args) as AsyncIterable<unknown>;
      await watch.after?.('iterator', args);
    };
  const wrap = (name: WatchedCall, call: Call): Call => {
    return async (...args: unknown[]): Promise<unknown> => {
      await watch.before?.(name, args);
      const answer = await call(...args);
      await watch.after?.(name, args);
      return answer;
    };
  };
  const bound = (target: object, property: string | symbol): unknown => {
    const value: unknown = Reflect.get(target, property, target);
    return typeof value === 'function' ? (value as Call).bind(target) : value;
  };
  return new Proxy(database, {
    get(target, property) {
      const value = bound(target, property);
      if (property === 'get' || property === 'getMany') return wrap(property, value as Call);
      if (property === 'iterator') return wrapIterator(value as Call);
      if (property !== 'batch') return value;
      return (...args: unknown[]): unknown => {
        const batch = (value as Call)(...args) as object;
        return new Proxy(batch, {
          get(inner, name) {
            const part = bound(inner, name);
            return name === 'write' ? wrap('write', part as Call) : part;
          },
        });
      };
    },
  }) as IndexDatabase;
}

/** Every call waits for a random while, before it is made and before it answers. */
export function slow(database: IndexDatabase, random: Random): IndexDatabase {
  const wait = (): Promise<void> => ticks(random.pick([0, 0, 1, 1, 2, 5, 12]));
  return watched(database, { before: wait, after: wait });
}
