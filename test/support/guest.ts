/**
 * A small Linux machine on a served volume: Debian's cloud kernel, an initramfs of busybox, e2fsprogs and the modules
 * that a virtio disk needs, in QEMU; its console is the standard input and output of QEMU.
 */

import fs from 'node:fs';
import path from 'node:path';
import { type Cleanup, Program, runTool, tail, tool } from './programs.ts';

export const GUEST_TOOLS = ['qemu-system-x86_64', 'busybox', 'cpio', 'mke2fs', 'e2fsck', 'ldd'];
const MODULES = ['virtio_pci', 'virtio_blk', 'ext4'];
const BINARIES = ['mke2fs', 'e2fsck'];
/** What the guest runs first; `work` is a shell script. By its name alone it would get busybox's mke2fs. */
const INIT = `#!/bin/busybox sh
/bin/busybox --install -s /bin
export PATH=/bin
mount -t devtmpfs none /dev; mount -t proc none /proc; mount -t sysfs none /sys
while read -r module; do insmod "/modules/$module"; done < /modules/order
tries=0
while [ ! -b /dev/vda ] && [ $tries -lt 300 ]; do sleep 0.1; tries=$((tries + 1)); done
echo GUEST STARTS
set -e
trap 'echo GUEST ENDS with $?; sync; poweroff -f' EXIT
. /commands
`;
const BOOT_LINE = 'Linux version';
const KVM_BOOT_MS = 8_000;
const TCG_BOOT_MS = 90_000;

export interface Kernel {
  image: string;
  modules: string;
}

/** Debian's kernel for virtual machines, the newest of those installed. */
export function findKernel(): Kernel | undefined {
  const directory = '/boot';
  if (!fs.existsSync(directory)) return undefined;
  const images = fs.readdirSync(directory).filter((name) => /^vmlinuz-.*cloud-amd64$/.test(name));
  const kernels = images.map((name) => ({
    image: path.join(directory, name),
    modules: path.join('/lib/modules', name.replace('vmlinuz-', '')),
  }));
  return kernels
    .sort((a, b) => (a.image < b.image ? -1 : 1))
    .findLast(({ modules }) => fs.existsSync(modules));
}

/** What is behind `-drive`, and what QEMU has to know before that. */
export interface GuestDisk {
  readonly drive: string;
  readonly options?: readonly string[];
}

/** Where initramfs files are made, and which kernel they are for. */
export class GuestImages {
  readonly #kernel: Kernel;
  readonly #scratch: string;
  readonly #files: Readonly<Record<string, string>>;
  /** By what the machine is to do. */
  readonly #made = new Map<string, string>();
  #accelerator: 'kvm' | 'tcg' = fs.existsSync('/dev/kvm') ? 'kvm' : 'tcg';

  /** `files`: by their names in the machine's root, where each is to be found when a machine boots. */
  constructor(kernel: Kernel, scratch: string, files: Readonly<Record<string, string>> = {}) {
    this.#kernel = kernel;
    this.#scratch = scratch;
    this.#files = files;
  }

  /** Boots a machine that has `disk` as /dev/vda, runs `work` in it, and then powers off. */
  async boot(cleanup: Cleanup, disk: GuestDisk, work: string): Promise<Guest> {
    const initramfs = this.#made.get(work) ?? (await this.#makeInitramfs(work));
    this.#made.set(work, initramfs);
    if (this.#accelerator === 'kvm') {
      const guest = new Guest(cleanup, this.#arguments('kvm', initramfs, disk));
      if (await guest.starts(KVM_BOOT_MS)) return guest;
      // The device may be there and still run nothing.
      this.#accelerator = 'tcg';
      await guest.kill();
    }
    const guest = new Guest(cleanup, this.#arguments('tcg,thread=multi', initramfs, disk));
    if (!(await guest.starts(TCG_BOOT_MS)))
      throw new Error(`the machine did not start\n${tail(guest.console)}`);
    return guest;
  }

  #arguments(accelerator: string, initramfs: string, disk: GuestDisk): string[] {
    return [
      ...'-nodefaults -no-user-config -display none -no-reboot -m 384 -serial stdio'.split(' '),
      '-accel',
      accelerator,
      '-kernel',
      this.#kernel.image,
      '-initrd',
      initramfs,
      '-append',
      'console=ttyS0 panic=-1 loglevel=6 random.trust_cpu=on',
      ...(disk.options ?? []),
      '-drive',
      `${disk.drive},format=raw,if=virtio,discard=unmap`,
    ];
  }

  async #makeInitramfs(work: string): Promise<string> {
    const root = path.join(this.#scratch, `initramfs${this.#made.size}`);
    for (const directory of ['bin', 'sbin', 'dev', 'proc', 'sys', 'mnt', 'etc', 'modules']) {
      fs.mkdirSync(path.join(root, directory), { recursive: true });
    }
    fs.writeFileSync(path.join(root, 'init'), INIT, { mode: 0o755 });
    fs.writeFileSync(path.join(root, 'commands'), work);
    if (fs.existsSync('/etc/mke2fs.conf'))
      fs.copyFileSync('/etc/mke2fs.conf', path.join(root, 'etc/mke2fs.conf'));
    for (const [name, file] of Object.entries(this.#files)) fs.copyFileSync(file, path.join(root, name));
    fs.copyFileSync(await which('busybox'), path.join(root, 'bin/busybox'));
    for (const name of BINARIES) await copyBinary(await which(name), name, root);
    const order: string[] = [];
    for (const file of modulesInOrder(this.#kernel.modules)) {
      order.push(await copyModule(path.join(this.#kernel.modules, file), path.join(root, 'modules')));
    }
    fs.writeFileSync(path.join(root, 'modules/order'), order.map((name) => `${name}\n`).join(''));
    const file = `${root}.cpio`;
    await tool('sh', ['-c', 'find . | cpio --quiet -o -H newc > "$0"', file], { cwd: root });
    return file;
  }
}

export class Guest {
  readonly #machine: Program;

  constructor(cleanup: Cleanup, args: string[]) {
    this.#machine = new Program('qemu-system-x86_64', args);
    cleanup.add(() => this.#machine.kill());
  }

  get console(): string {
    return this.#machine.output.replaceAll('\r', '');
  }

  async starts(waitMs: number): Promise<boolean> {
    const isUp = (): boolean => this.console.includes(BOOT_LINE);
    await this.#machine.until(isUp, 'sign of life', waitMs).catch(() => undefined);
    return isUp();
  }

  /** Waits for a line that matches; answers its first group. */
  async says(pattern: RegExp, waitMs = 90_000): Promise<string> {
    const find = (): RegExpExecArray | null => pattern.exec(this.console);
    await this.#machine
      .until(() => find() !== null, String(pattern), waitMs)
      .catch((error: unknown) => {
        if (find() === null) throw error;
      });
    return find()![1] ?? '';
  }

  send(line: string): void {
    this.#machine.send(`${line}\n`);
  }

  /** Waits until it has powered itself off. @throws Error unless its work ended well */
  async powersOff(waitMs = 90_000): Promise<void> {
    const isOff = await this.#machine.endsWithin(waitMs);
    if (isOff && this.#machine.result === 0 && this.console.includes('GUEST ENDS with 0')) return;
    throw new Error(`the machine ${isOff ? 'failed' : 'did not power off'}\n${tail(this.console)}`);
  }

  async kill(): Promise<void> {
    await this.#machine.kill();
  }
}

async function which(name: string): Promise<string> {
  return (await tool('which', [name])).trim();
}

/** A binary and the libraries that it is linked with, where its loader looks for them. */
async function copyBinary(binary: string, name: string, root: string): Promise<void> {
  fs.copyFileSync(binary, path.join(root, 'sbin', name));
  // A static binary has none: ldd says so and fails.
  const { output } = await runTool('ldd', [binary]);
  for (const [library] of output.matchAll(/\/\S+(?= \(0x)/g)) {
    fs.mkdirSync(path.join(root, path.dirname(library)), { recursive: true });
    fs.copyFileSync(library, path.join(root, library));
  }
}

/** The files of MODULES and of what they need, each after those that it needs; what is built in is not there. */
function modulesInOrder(directory: string): string[] {
  const needs = new Map<string, string[]>();
  for (const line of fs.readFileSync(path.join(directory, 'modules.dep'), 'utf8').split('\n')) {
    const [file, rest] = line.split(':');
    if (rest !== undefined)
      needs.set(
        file!,
        rest.split(' ').filter((name) => name !== ''),
      );
  }
  const ordered = new Set<string>();
  const visit = (file: string): void => {
    for (const needed of needs.get(file) ?? []) visit(needed);
    ordered.add(file);
  };
  for (const name of MODULES) {
    for (const file of needs.keys()) if (path.basename(file).split('.')[0] === name) visit(file);
  }
  return [...ordered];
}

/** Uncompressed, because busybox does not. */
async function copyModule(file: string, directory: string): Promise<string> {
  const name = path.basename(file).replace(/\.(xz|zst|gz)$/, '');
  const target = path.join(directory, name);
  fs.copyFileSync(file, path.join(directory, path.basename(file)));
  if (file.endsWith('.xz')) await tool('xz', ['-d', `${target}.xz`]);
  if (file.endsWith('.zst')) await tool('zstd', ['-q', '-d', '--rm', `${target}.zst`]);
  if (file.endsWith('.gz')) await tool('gzip', ['-d', `${target}.gz`]);
  return name;
}
