/**
 * A process of its own that opens connections with nothing good in mind: idle ones, junk, half a handshake, options of
 * gigabytes, requests that are cut off, resets. As a script, because it runs beside the test.
 */

import { spawn } from 'node:child_process';

/** Opens `count` connections to a TCP port, `atOnce` of them at a time, each for half a second at most. */
const SCRIPT = `
const net = require('node:net');
const [port, count, atOnce] = process.argv.slice(1).map(Number);
const u32 = (n) => { const b = Buffer.alloc(4); b.writeUInt32BE(n); return b; };
const option = (n, body, length = body.length) => Buffer.concat([Buffer.from('IHAVEOPT'), u32(n), u32(length), body]);
const name = Buffer.from('disk');
const go = option(7, Buffer.concat([u32(4), name, Buffer.alloc(2)]));
const request = Buffer.concat([u32(0x25609513), Buffer.alloc(2), Buffer.from([0, 1]), Buffer.alloc(16), u32(1 << 20)]);
const kinds = [
  () => [],
  () => [require('node:crypto').randomBytes(300)],
  () => [u32(3)],
  () => [u32(3), option(3, Buffer.alloc(0)), option(3, Buffer.alloc(0))],
  () => [u32(3), option(7, Buffer.alloc(10), 4000000000)],
  () => [Buffer.from('GET / HTTP/1.1\\r\\nHost: disk\\r\\n\\r\\n')],
  () => [u32(3), go, request, Buffer.alloc(1000)],
  () => [u32(3), go, Buffer.alloc(28, 0xff)],
];
let opened = 0;
let open = 0;
function next() {
  while (open < atOnce && opened < count) {
    const kind = opened++ % kinds.length;
    open += 1;
    const socket = net.connect(port, '127.0.0.1');
    socket.on('error', () => undefined);
    socket.resume();
    socket.on('connect', () => { for (const bytes of kinds[kind]()) socket.write(bytes); });
    const timer = setTimeout(() => (opened % 3 === 0 ? socket.resetAndDestroy() : socket.destroy()), 20 + (opened % 480));
    socket.on('close', () => { clearTimeout(timer); open -= 1; setTimeout(next, 10); });
  }
  if (open === 0 && opened === count) process.exit(0);
}
next();
`;

/** Resolves when all connections were opened and are gone. */
export async function openJunk(port: number, count: number, atOnce: number): Promise<void> {
  const child = spawn(process.execPath, ['-e', SCRIPT, String(port), String(count), String(atOnce)], {
    stdio: ['ignore', 'ignore', 'inherit'],
  });
  const code = await new Promise<number | null>((resolve) => child.on('close', resolve));
  if (code !== 0) throw new Error(`the process with the junk ended with ${code}`);
}

/** A server of its own that hangs up on whoever comes: what the same junk costs this machine without ours. */
export async function startDoorman(): Promise<{ port: number; stop: () => void }> {
  const script = `
    const server = require('node:net').createServer((socket) => socket.on('error', () => undefined).resume());
    server.listen(0, '127.0.0.1', () => console.log(server.address().port));
  `;
  const child = spawn(process.execPath, ['-e', script], { stdio: ['ignore', 'pipe', 'inherit'] });
  const port = await new Promise<number>((resolve) =>
    child.stdout.once('data', (text: Buffer) => resolve(Number(text.toString()))),
  );
  return { port, stop: () => child.kill('SIGKILL') };
}
