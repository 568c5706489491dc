/** Made by vite/engines.ts. */
declare module 'virtual:engines' {
  /** One compressed file of the build. */
  export interface EngineFile {
    /** Path in the build. */
    file: string;
    /** Of the bytes after decompression. */
    sha256: string;
    /** Bytes after decompression. */
    size: number;
  }
  const engines: {
    version: string;
    wasm: EngineFile;
    compatWasm: EngineFile;
    compatScript: EngineFile;
  };
  export default engines;
}
