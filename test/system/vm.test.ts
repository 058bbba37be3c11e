/** A Linux machine that has a volume as its disk: what it wrote and synced is on a clone of its disk, too. */

import path from 'node:path';
import { afterEach, describe, expect, it } from 'vitest';
import { findKernel, GUEST_TOOLS, type Guest, GuestImages } from '../support/guest.ts';
import { Cleanup, requireHere } from '../support/programs.ts';
import { ServedStore } from '../support/served-store.ts';
import { makeSharedKeys } from '../support/tls-files.ts';
import { requireTools } from '../support/tools.ts';

const TEST_MS = 240_000;

/** Makes a file system with some files, says their checksum once they are synced, and writes on until it is told to stop. */
const FIRST = `
/sbin/mke2fs -q -t ext4 -L coppice /dev/vda
mount -t ext4 /dev/vda /mnt
mkdir /mnt/kept /mnt/kept/small /mnt/more
dd if=/dev/urandom of=/mnt/kept/large bs=64k count=128 2>/dev/null
i=0; while [ $i -lt 200 ]; do echo "file $i" > /mnt/kept/small/$i; i=$((i + 1)); done
cp /bin/busybox /mnt/kept/busybox
ln /mnt/kept/busybox /mnt/kept/link; ln -s busybox /mnt/kept/symlink
cd /mnt/kept; find . -type f | sort | xargs sha256sum > /mnt/SUMS; cd /
sync
echo "SUM $(sha256sum < /mnt/SUMS)"
( i=0; while [ ! -e /stop ] && [ $i -lt 1000 ]; do dd if=/dev/urandom of=/mnt/more/$i bs=64k count=4 2>/dev/null; echo "MORE $i"; i=$((i + 1)); done ) &
read -r line
touch /stop
wait
rm -r /mnt/kept/small
umount /mnt
`;

/** Checks the file system, and says what is the checksum of its list of checksums if all files have theirs. */
const VERIFY = `
/sbin/e2fsck -fy /dev/vda > /e2fsck.out 2>&1 || { [ $? -le 1 ] || { cat /e2fsck.out; exit 9; }; }
/sbin/e2fsck -fn /dev/vda > /e2fsck.out 2>&1 || { cat /e2fsck.out; exit 9; }
mount -t ext4 /dev/vda /mnt
if [ -e /mnt/mark ]; then echo "MARK $(cat /mnt/mark)"; fi
if [ -d /mnt/kept/small ]; then
  cd /mnt/kept
  sha256sum -c /mnt/SUMS > /sums.out 2>&1 || { grep -v OK /sums.out; exit 9; }
  cd /
  echo "SUM $(sha256sum < /mnt/SUMS)"
else
  echo "GONE $(ls /mnt/kept | wc -l)"
fi
echo changed > /mnt/mark
sync
umount /mnt
`;

const SUM = /^SUM ([0-9a-f]{64})/m;

const cleanup = new Cleanup();
afterEach(() => cleanup.run(), 60_000);

const kernel = findKernel();
const isReady =
  requireTools(GUEST_TOOLS) && requireHere(kernel === undefined ? ['linux-image-cloud-amd64'] : []);

describe.skipIf(!isReady)('a Linux machine', () => {
  it(
    'finds what it had synced on a clone of its disk, taken while it went on writing',
    async () => {
      const store = await ServedStore.make(cleanup);
      await store.coppice('create', 'disk', '--size', '512M');
      await store.start();
      const images = new GuestImages(kernel!, store.scratch);
      const boot = (disk: string, work: string): Promise<Guest> =>
        images.boot(cleanup, { drive: `file=${store.uri(disk)}` }, work);

      const first = await boot('disk', FIRST);
      const sum = await first.says(SUM);
      await first.says(/^MORE (1)$/m);
      await store.coppice('snapshot', 'disk@running');
      const lastSeen = first.console.match(/MORE \d+/g)!.length;
      await first.says(new RegExp(`^MORE (${lastSeen + 1})$`, 'm'));
      first.send('stop');
      await first.powersOff();
      await store.coppice('clone', 'disk@running', 'branch');

      const branch = await boot('branch', VERIFY);
      await branch.powersOff();
      expect(await branch.says(SUM)).toBe(sum);
      expect(branch.console).not.toMatch(/^MARK/m);

      // The server may die between two starts: the machine had synced.
      await store.kill();
      expect(await store.damage()).toBeUndefined();
      await store.start();
      const again = await boot('branch', VERIFY);
      await again.powersOff();
      expect(await again.says(SUM)).toBe(sum);
      expect(await again.says(/^MARK (\w+)$/m)).toBe('changed');

      const original = await boot('disk', VERIFY);
      await original.powersOff();
      expect(await original.says(/^GONE (\d+)$/m)).toBe('4');
      expect(original.console).not.toMatch(/^MARK/m);
      expect((await store.stop()).code).toBe(0);
      expect(await store.damage()).toBeUndefined();
    },
    TEST_MS,
  );

  it(
    'has its disk over TLS with a shared key, and finds all of it when the server was killed and started again',
    async () => {
      const store = await ServedStore.make(cleanup);
      await store.coppice('create', 'disk', '--size', '512M');
      const keys = makeSharedKeys(store.file('keys.psk'), 'machine');
      const serve = (): Promise<void> => store.start('--tls=require', '--tls-psk', keys);
      const images = new GuestImages(kernel!, store.scratch);
      const credentials = `tls-creds-psk,id=tls,endpoint=client,username=machine,dir=${store.scratch}`;
      const socket = path.join(store.directory, 'nbd.sock');
      const disk = {
        drive: `file.driver=nbd,file.path=${socket},file.export=disk,file.tls-creds=tls`,
        options: ['-object', credentials],
      };

      await serve();
      const first = await images.boot(cleanup, disk, FIRST);
      const sum = await first.says(SUM);
      await first.says(/^MORE (1)$/m);
      first.send('stop');
      await first.powersOff();
      await store.kill();
      await serve();
      const again = await images.boot(cleanup, disk, VERIFY);
      await again.powersOff();
      // The small files went when it was told to stop.
      expect(await again.says(/^GONE (\d+)$/m)).toBe('4');
      expect(sum).toHaveLength(64);
      expect(store.log).not.toContain('a client was refused');
      expect((await store.stop()).code).toBe(0);
      expect(await store.damage()).toBeUndefined();
    },
    TEST_MS,
  );
});
