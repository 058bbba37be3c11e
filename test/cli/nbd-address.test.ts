/** `--listen`, and the URIs that clients take. */

import { describe, expect, it } from 'vitest';
import { nbdUri, parseListenAddress } from '../../src/cli/nbd-address.ts';

describe('an NBD URI', () => {
  it.each([
    [{ socketPath: '/srv/store/nbd.sock' }, 'disk', 'nbd+unix:///disk?socket=/srv/store/nbd.sock'],
    [{ socketPath: '/a b/ü&?#%+/n.sock' }, 'd', 'nbd+unix:///d?socket=/a%20b/%C3%BC%26%3F%23%25%2B/n.sock'],
    [{ host: '127.0.0.1', port: 10809 }, 'disk', 'nbd://127.0.0.1:10809/disk'],
    [{ host: 'vm.example', port: 1 }, 'A.b_c-1', 'nbd://vm.example:1/A.b_c-1'],
    [{ host: '::1', port: 10809 }, 'disk', 'nbd://[::1]:10809/disk'],
    [{ host: 'fe80::1%eth0', port: 10809 }, 'disk', 'nbd://[fe80::1%25eth0]:10809/disk'],
  ])('for %j and %s is %s', (listener, volume, uri) => {
    expect(nbdUri(listener, volume)).toBe(uri);
  });

  it('names the socket that it was made for', () => {
    const socketPath = '/tmp/it\'s; a "store"/nbd.sock';
    const uri = new URL(nbdUri({ socketPath }, 'disk'));
    expect(uri.searchParams.get('socket')).toBe(socketPath);
  });
});

describe('--listen', () => {
  it.each([
    ['127.0.0.1:10809', { host: '127.0.0.1', port: 10809 }],
    ['localhost:0', { host: 'localhost', port: 0 }],
    ['0.0.0.0:65535', { host: '0.0.0.0', port: 65535 }],
    ['[::1]:10809', { host: '::1', port: 10809 }],
    ['[fe80::1%eth0]:1', { host: 'fe80::1%eth0', port: 1 }],
  ])('takes %s', (text, address) => {
    expect(parseListenAddress(text)).toEqual(address);
  });

  it.each([
    '',
    'localhost',
    '10809',
    ':10809',
    'localhost:',
    'localhost:nbd',
    'localhost:65536',
    '::1:10809',
    'a b:1',
    '[]:1',
  ])('refuses %j and says how to write it', (text) => {
    expect(() => parseListenAddress(text)).toThrow(
      expect.objectContaining({
        code: 'INVALID_ARGUMENT',
        message: expect.stringContaining('127.0.0.1:10809'),
      }),
    );
  });
});
