declare module 'fs-native-extensions' {
  const lock: {
    /** An exclusive open-file-description lock on the whole file; false if another descriptor holds one. */
    tryLock(descriptor: number): boolean;
  };
  export default lock;
}
