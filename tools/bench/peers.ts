// All peers, and which of them can be measured here.

import { Coppice } from './coppice-peer.ts';
import { Nbdkit, PlainFile } from './limit-peers.ts';
import { PEER_NAMES, type Peer, type PeerName } from './peer.ts';
import { QemuQcow2, QemuRaw, XfsReflink } from './qemu-peers.ts';
import { missingTool } from './tools.ts';

const CACHE_BYTES = 16 * 2 ** 20;

const ALL: readonly Peer[] = [
  new Coppice('coppice', 'Coppice as it is'),
  new QemuRaw(),
  new QemuQcow2('qemu-qcow2', 'qemu-nbd over qcow2, snapshots within it'),
  new QemuQcow2('qcow2-chain-1', 'qemu-nbd over a qcow2 overlay', { overlays: 1 }),
  new QemuQcow2('qcow2-chain-16', 'qemu-nbd over sixteen qcow2 overlays', { overlays: 16 }),
  new XfsReflink(),
  new Nbdkit('file'),
  new Nbdkit('memory'),
  new Nbdkit('null'),
  new PlainFile(),
  new Coppice('coppice-uncompacted', 'Coppice without compaction', { compacts: false }),
  new Coppice('coppice-cache-1g', 'Coppice with all pointers in memory', { serve: ['--cache-size', '1G'] }),
  new Coppice('coppice-cache-16m', 'Coppice with --cache-size 16M', { serve: ['--cache-size', '16M'] }),
  new QemuQcow2('qcow2-cache-16m', 'qemu-nbd over qcow2, 16 MiB of L2 tables in memory', {
    l2CacheBytes: CACHE_BYTES,
  }),
];

export const PEERS: readonly Peer[] = PEER_NAMES.map((name) => ALL.find((peer) => peer.name === name)!);

export function peerOf(name: PeerName): Peer {
  return PEERS[PEER_NAMES.indexOf(name)]!;
}

/** Says what is missing for a peer to be measured, in one line, or undefined when nothing is. */
export function missingFor(peer: Peer): string | undefined {
  return peer.tools.map(missingTool).find((message) => message !== undefined) ?? peer.missing?.();
}
