type Parser = (text: string) => string | number | boolean

const asWritten: Parser = (text) => text
const isTrue: Parser = (text) => text === 't'

/** By the oid of the type, which is part of the server's catalog: bool; int2, int4, oid, float4, float8. */
const parsers = new Map<number, Parser>([[16, isTrue], ...[21, 23, 26, 700, 701].map((oid) => [oid, Number] as const)])

/**
 * Parsers for every row that we read, on connections of our own and on the caller's pool: booleans and small numbers as such,
 * all else as the server wrote it. Those of the driver belong to the application, which changes them for the whole process
 * (`pg.types.setTypeParser(20, BigInt)`).
 */
export const plainTypes: { getTypeParser(oid: number): Parser } = {
  getTypeParser: (oid) => parsers.get(oid) ?? asWritten,
}
