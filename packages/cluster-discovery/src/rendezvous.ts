import { hash } from 'node:crypto'

/**
 * Who owns a key: every node that calls this with the same members gets the same answer, without asking anybody. A node
 * that comes or goes moves only its own keys. Highest random weight (Thaler and Ravishankar, "Using name-based mappings to
 * increase hit rates", 1998): the weight is the first 48 bits of SHA-256 over the key and the id.
 *
 * @returns the owner; undefined without nodes
 * @example
 * const owner = rendezvous('customer-42', discovery.nodes({ states: ['up'] }))
 * const mine = owner?.id === discovery.self.id
 */
export function rendezvous<N extends { readonly id: string }>(key: string, nodes: readonly N[]): N | undefined {
  let owner: N | undefined
  let heaviest = -1
  for (const node of nodes) {
    const weight = weightOf(key, node.id)
    if (weight > heaviest || (weight === heaviest && owner !== undefined && node.id < owner.id)) {
      owner = node
      heaviest = weight
    }
  }
  return owner
}

function weightOf(key: string, id: string): number {
  // The length keeps ('ab', 'c') and ('a', 'bc') apart.
  return Number.parseInt(hash('sha256', `${key.length}:${key}${id}`).slice(0, 12), 16)
}
