// What can be measured, and what is promised of it, as text. No I/O.

import { FLOORS, promiseOf } from './floors.ts';
import { LOADS } from './loads.ts';
import { PEERS } from './peers.ts';
import { align } from './report.ts';
import { peersFor } from './rounds.ts';

export function listing(): string {
  const loads = LOADS.map((load) => [
    load.name,
    load.title,
    load.core === true ? 'quick' : '',
    peersFor(PEERS, load)
      .map(({ name }) => name)
      .join(' '),
  ]);
  const peers = PEERS.map(({ name, title }) => [name, title]);
  const floors = FLOORS.map((floor) => [floor.load, floor.peer ?? 'coppice', promiseOf(floor)]);
  return [
    align(['load', 'what', '', 'peers'], loads, [0, 1, 2, 3]),
    align(['peer', 'what'], peers, [0, 1]),
    align(['load', 'peer', 'promised'], floors, [0, 1, 2]),
  ].join('\n\n');
}
