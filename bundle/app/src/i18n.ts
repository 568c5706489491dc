// Every sentence of the app, in each language. English is the pattern that the others follow.

import type { IdleMinutes } from './idle.ts';

const en = {
  // Shell
  chat: 'Chat',
  history: 'History',
  models: 'Models',
  performance: 'Performance',
  settings: 'Settings',
  skip: 'Skip to the content',
  starting: 'Starting…',
  noWasm:
    'This browser cannot run WebAssembly. Take a current Chrome, Edge, Firefox or Safari and open this page again.',
  noStorage:
    'This browser does not let this page store files. Open it over https or from localhost, outside of a private window.',
  noThreads:
    'This page runs on one processor core only, because its server does not isolate it. It works, but slowly: start it with “bundle serve”, or reload the page once.',
  noWorker:
    'This page could not be kept on this device, because its server did not deliver all of it: it needs the network each time. Reload the page to try again.',
  reload: 'Reload the page',

  // Models
  offered: 'In this bundle',
  installed: 'On this device',
  allInstalled: 'All of it is on this device.',
  noneInstalled: 'No model is on this device yet.',
  unreachable: 'The bundle cannot be reached. Models on this device work without it.',
  refused: 'This bundle breaks the rules of its format and is refused.',
  again: 'Try again',
  recommended: 'recommended for this device',
  size: 'Download',
  need: 'Memory in use',
  agreement: 'Agrees with the trained model',
  perplexity: 'Perplexity',
  tooLarge:
    'This needs more memory than this device is likely to give to a page. Choose a smaller one, or close other pages first.',
  noRoom: (need: string, free: string) =>
    `This needs ${need}, and this browser still stores ${free}. Remove another model or free some space.`,
  download: (size: string) => `Download ${size}`,
  resume: (size: string) => `Resume, ${size} to go`,
  discard: 'Discard what came',
  cancel: 'Cancel',
  downloading: 'Download of the model',
  progress: (received: string, total: string) => `${received} of ${total}`,
  speed: (speed: string) => `${speed}/s`,
  left: (time: string) => `${time} left`,
  use: 'Use',
  inUse: 'in use',
  remove: 'Remove',
  removeQuestion: (name: string) => `Remove ${name} from this device?`,
  connection:
    'The connection broke. What came is kept: check the network, then resume the download.',
  missing: 'A part of the model is missing on the server. Tell whoever gave you this bundle.',
  damaged:
    'A part of the model is damaged on the server and was not stored. Try again later, or tell whoever gave you this bundle.',
  storageFull:
    'The storage of this browser is full. Remove another model or free some space on the device, then resume.',
  other: 'The download failed.',
  signed: (key: string) => `Signed, key ${key}`,
  unsigned: 'Not signed: anybody may have made it.',
  release: (number: number) => `release ${number}`,
  noRelease: 'no release stated: an older bundle cannot be told from a newer one',
  invalid: 'The signature does not belong to this bundle. It is not installed.',
  changed:
    'This bundle is not signed with the key that was seen here first. It is not installed, unless you know why the key changed.',
  trust: 'Trust the new key',
  signatureGone:
    'This bundle is not signed, and an earlier one from here was: anybody may have made it. It is not installed, unless you know why the signature is gone.',
  acceptUnsigned: 'Take it without a signature',
  refuse: 'Refuse it',
  keyRefused: (key: string | null) =>
    key === null
      ? 'You refused bundles without a signature from here.'
      : `You refused bundles signed with key ${key} from here.`,
  reconsider: 'Decide again',
  revoked:
    'The owner of this bundle’s key revoked it: somebody else may have the key. It is not installed.',
  revokedHere:
    'The owner of this model’s key revoked it: somebody else may have made this model. Remove it unless you know better.',
  older: (newest: number) =>
    `This bundle is older than release ${newest}, which was installed on this device. It is not installed, unless you want to go back.`,
  expired: (day: string) =>
    `This bundle was to be installed until ${day} only. Ask its maker for a newer one.`,
  takeStale: 'Take it all the same',
  appChanged:
    'This host serves another web chat than the signed bundle lists. After an update reload the page; if this stays, do not trust the host.',
  private: 'Everything stays on this device: no message ever leaves it.',

  // Chat
  welcomeChat: 'Ask something. The model runs on this device.',
  welcomeText: 'Begin a text. The model goes on with it, on this device.',
  noModel: 'Choose a model first.',
  toModels: 'Go to the models',
  loading: 'Loading the model…',
  messageLabel: 'Message',
  textLabel: 'Text',
  send: 'Send',
  write: 'Go on',
  stop: 'Stop',
  edit: 'Edit',
  resend: 'Send again',
  regenerate: 'Again',
  copy: 'Copy',
  copied: 'Copied',
  share: 'Share',
  you: 'You',
  model: 'Model',
  shortened: 'The text is longer than what the model can see: its oldest part was left out.',
  reading: (read: string, all: string) => `Reading: ${read} of ${all} tokens…`,
  endedByLength: 'The answer reached its greatest length.',
  goOn: 'Continue',
  tooLong:
    'This message is longer than what the model can see at once. Shorten it and send it again.',
  elsewhere:
    'This conversation is being answered in another tab. Wait until it is done, or stop it there.',
  instructions: 'Instructions for the model',
  instructionsHint: 'For example: Answer in one sentence.',
  idleNote: 'The model was unloaded to give its memory back. The next message loads it again.',
  gone: 'A part of this model is damaged or gone on this device, and did not come again from where it was installed. Connect and load it again, or remove it and download it.',
  memory:
    'There is not enough memory to load this model. Close other pages, or choose a smaller model.',
  engine: 'The model could not be started. Reload the page and try again.',
  generation: 'The answer broke off. Send the message again.',
  unsaved:
    'This browser could not save the conversation. It stays here until the page is closed; export it, or make room.',
  details: 'Details',
  tokensPerSecond: (speed: string) => `${speed} tokens/s`,

  // Conversations
  newConversation: 'New',
  search: 'Search',
  untitled: 'Untitled',
  noConversations: 'Nothing here yet.',
  rename: 'Rename',
  titleLabel: 'Title',
  save: 'Save',
  delete: 'Delete',
  deleteQuestion: (title: string) => `Delete “${title}”?`,
  export: 'Export all',
  import: 'Import',
  imported: (count: number) =>
    count === 1 ? '1 conversation was imported.' : `${count} conversations were imported.`,
  importRefused: 'This file was not imported:',

  // Performance
  loadTime: 'Load time',
  firstToken: 'Time to the first token',
  speedNow: 'Tokens/s, last second',
  speedAverage: 'Tokens/s, last answer',
  promptSpeed: 'Prompt tokens/s',
  contextUsed: 'Context in use',
  ofContext: (used: string, all: string) => `${used} of ${all} tokens`,
  weights: 'Memory of the weights',
  kvCache: 'Memory of the context',
  compute: 'Memory for computing',
  threads: 'Threads',
  engineKind: 'Engine',
  selfTest: 'Self-test',
  runSelfTest: 'Run the self-test',
  selfTestPassed: (count: number) => `passed: all ${count} tokens as when it was packed`,
  selfTestFailed: (same: number, count: number) =>
    `differs: ${same} of ${count} tokens as when it was packed`,
  runBenchmark: 'Run the benchmark',
  benchmarkResult: 'Result of the benchmark',
  running: 'Running…',
  notYet: '–',

  // Settings
  theme: 'Appearance',
  themes: { system: 'As the system', light: 'Light', dark: 'Dark' },
  temperature: 'Temperature (0: always the likeliest token)',
  topK: 'Choose among the likeliest (top-k, 0: all)',
  topP: 'Choose among this share (top-p)',
  repetitionPenalty: 'Repetition penalty (1: none)',
  maxNewTokens: 'Longest answer, in tokens',
  greedy: 'Greedy: the same answer every time',
  proposal: 'As the bundle proposes',
  specials: 'Special tokens in messages',
  specialsAsText: 'Stay text',
  specialsAsTokens: 'Count as tokens',
  specialsHint: 'For example <|im_end|>, which ends a turn. As text it cannot end one.',
  automatic: 'Automatic',
  idle: 'Unload the model when idle',
  idleAfter: (minutes: IdleMinutes) =>
    minutes === null ? 'Never' : minutes === 1 ? 'After 1 minute' : `After ${minutes} minutes`,
  threadsHint: 'Processor cores that the model may use; it is loaded again.',
};

/** All sentences of one language. */
export type Texts = typeof en;

const fr: Texts = {
  chat: 'Discussion',
  history: 'Historique',
  models: 'Modèles',
  performance: 'Mesures',
  settings: 'Réglages',
  skip: 'Aller au contenu',
  starting: 'Démarrage…',
  noWasm:
    'Ce navigateur ne peut pas exécuter WebAssembly. Prenez une version récente de Chrome, Edge, Firefox ou Safari et rouvrez cette page.',
  noStorage:
    'Ce navigateur ne laisse pas cette page enregistrer de fichiers. Ouvrez-la en https ou depuis localhost, hors d’une fenêtre privée.',
  noThreads:
    'Cette page n’utilise qu’un seul cœur, car son serveur ne l’isole pas. Elle fonctionne, mais lentement : lancez-la avec « bundle serve », ou rechargez la page une fois.',
  noWorker:
    'Cette page n’a pas pu être gardée sur cet appareil, car son serveur ne l’a pas livrée en entier : il lui faut le réseau à chaque fois. Rechargez-la pour réessayer.',
  reload: 'Recharger la page',

  offered: 'Dans ce paquet',
  installed: 'Sur cet appareil',
  allInstalled: 'Tout est sur cet appareil.',
  noneInstalled: 'Aucun modèle n’est encore sur cet appareil.',
  unreachable:
    'Le paquet est injoignable. Les modèles présents sur cet appareil fonctionnent sans lui.',
  refused: 'Ce paquet enfreint les règles de son format et est refusé.',
  again: 'Réessayer',
  recommended: 'conseillé pour cet appareil',
  size: 'Téléchargement',
  need: 'Mémoire occupée',
  agreement: 'Accord avec le modèle entraîné',
  perplexity: 'Perplexité',
  tooLarge:
    'Ce modèle demande plus de mémoire que cet appareil n’en donne sans doute à une page. Prenez-en un plus petit, ou fermez d’abord d’autres pages.',
  noRoom: (need, free) =>
    `Il faut ${need}, et ce navigateur peut encore enregistrer ${free}. Retirez un autre modèle ou libérez de la place.`,
  download: (size) => `Télécharger ${size}`,
  resume: (size) => `Reprendre, encore ${size}`,
  discard: 'Jeter ce qui est arrivé',
  cancel: 'Annuler',
  downloading: 'Téléchargement du modèle',
  progress: (received, total) => `${received} sur ${total}`,
  speed: (speed) => `${speed}/s`,
  left: (time) => `encore ${time}`,
  use: 'Utiliser',
  inUse: 'utilisé',
  remove: 'Retirer',
  removeQuestion: (name) => `Retirer ${name} de cet appareil ?`,
  connection:
    'La connexion est rompue. Ce qui est arrivé est gardé : vérifiez le réseau, puis reprenez le téléchargement.',
  missing: 'Une partie du modèle manque sur le serveur. Dites-le à qui vous a donné ce paquet.',
  damaged:
    'Une partie du modèle est abîmée sur le serveur et n’a pas été enregistrée. Réessayez plus tard, ou dites-le à qui vous a donné ce paquet.',
  storageFull:
    'Le stockage de ce navigateur est plein. Retirez un autre modèle ou libérez de la place sur l’appareil, puis reprenez.',
  other: 'Le téléchargement a échoué.',
  signed: (key) => `Signé, clé ${key}`,
  unsigned: 'Non signé : n’importe qui peut l’avoir fait.',
  release: (number) => `version ${number}`,
  noRelease: 'sans numéro de version : rien ne distingue un ancien paquet d’un récent',
  invalid: 'La signature n’est pas celle de ce paquet. Il n’est pas installé.',
  changed:
    'Ce paquet n’est pas signé avec la clé vue ici la première fois. Il n’est pas installé, sauf si vous savez pourquoi la clé a changé.',
  trust: 'Accepter la nouvelle clé',
  signatureGone:
    'Ce paquet n’est pas signé, alors qu’un paquet précédent d’ici l’était : n’importe qui peut l’avoir fait. Il n’est pas installé, sauf si vous savez pourquoi la signature a disparu.',
  acceptUnsigned: 'Le prendre sans signature',
  refuse: 'Le refuser',
  keyRefused: (key) =>
    key === null
      ? 'Vous avez refusé les paquets sans signature venant d’ici.'
      : `Vous avez refusé les paquets d’ici signés avec la clé ${key}.`,
  reconsider: 'Décider de nouveau',
  revoked:
    'Le propriétaire de la clé de ce paquet l’a révoquée : quelqu’un d’autre l’a peut-être. Il n’est pas installé.',
  revokedHere:
    'Le propriétaire de la clé de ce modèle l’a révoquée : quelqu’un d’autre a peut-être fait ce modèle. Retirez-le, sauf si vous en savez plus.',
  older: (newest) =>
    `Ce paquet est plus ancien que la version ${newest}, déjà installée sur cet appareil. Il n’est pas installé, sauf si vous voulez revenir en arrière.`,
  expired: (day) =>
    `Ce paquet n’était à installer que jusqu’au ${day}. Demandez-en un plus récent à son auteur.`,
  takeStale: 'Le prendre quand même',
  appChanged:
    'Cet hôte sert une autre application que celle du paquet signé. Après une mise à jour, rechargez la page ; si cela reste, ne faites pas confiance à l’hôte.',
  private: 'Tout reste sur cet appareil : aucun message ne le quitte.',

  welcomeChat: 'Posez une question. Le modèle tourne sur cet appareil.',
  welcomeText: 'Commencez un texte. Le modèle le continue, sur cet appareil.',
  noModel: 'Choisissez d’abord un modèle.',
  toModels: 'Voir les modèles',
  loading: 'Chargement du modèle…',
  messageLabel: 'Message',
  textLabel: 'Texte',
  send: 'Envoyer',
  write: 'Continuer',
  stop: 'Arrêter',
  edit: 'Modifier',
  resend: 'Renvoyer',
  regenerate: 'Refaire',
  copy: 'Copier',
  copied: 'Copié',
  share: 'Partager',
  you: 'Vous',
  model: 'Modèle',
  shortened: 'Le texte dépasse ce que le modèle peut voir : son début a été laissé de côté.',
  reading: (read, all) => `Lecture : ${read} jetons sur ${all}…`,
  endedByLength: 'La réponse a atteint sa longueur maximale.',
  goOn: 'Continuer',
  tooLong:
    'Ce message est plus long que ce que le modèle peut voir à la fois. Raccourcissez-le et renvoyez-le.',
  elsewhere:
    'Un autre onglet est en train de répondre à cette discussion. Attendez la fin, ou arrêtez-la là-bas.',
  instructions: 'Consignes pour le modèle',
  instructionsHint: 'Par exemple : Réponds en une phrase.',
  idleNote:
    'Le modèle a été déchargé pour rendre sa mémoire. Le prochain message le chargera de nouveau.',
  gone: 'Une partie de ce modèle est abîmée ou manque sur cet appareil, et n’a pas pu être reprise là d’où il vient. Connectez-vous et rechargez-le, ou retirez-le et téléchargez-le de nouveau.',
  memory:
    'La mémoire ne suffit pas pour charger ce modèle. Fermez d’autres pages, ou prenez un modèle plus petit.',
  engine: 'Le modèle n’a pas pu démarrer. Rechargez la page et réessayez.',
  generation: 'La réponse s’est interrompue. Renvoyez le message.',
  unsaved:
    'Ce navigateur n’a pas pu enregistrer la conversation. Elle reste ici jusqu’à la fermeture de la page ; exportez-la ou libérez de la place.',
  details: 'Détails',
  tokensPerSecond: (speed) => `${speed} jetons/s`,

  newConversation: 'Nouvelle',
  search: 'Chercher',
  untitled: 'Sans titre',
  noConversations: 'Rien ici pour l’instant.',
  rename: 'Renommer',
  titleLabel: 'Titre',
  save: 'Enregistrer',
  delete: 'Supprimer',
  deleteQuestion: (title) => `Supprimer « ${title} » ?`,
  export: 'Tout exporter',
  import: 'Importer',
  imported: (count) =>
    count <= 1
      ? `${count} conversation a été importée.`
      : `${count} conversations ont été importées.`,
  importRefused: 'Ce fichier n’a pas été importé :',

  loadTime: 'Temps de chargement',
  firstToken: 'Temps jusqu’au premier jeton',
  speedNow: 'Jetons/s, dernière seconde',
  speedAverage: 'Jetons/s, dernière réponse',
  promptSpeed: 'Jetons/s de l’invite',
  contextUsed: 'Contexte utilisé',
  ofContext: (used, all) => `${used} jetons sur ${all}`,
  weights: 'Mémoire des poids',
  kvCache: 'Mémoire du contexte',
  compute: 'Mémoire de calcul',
  threads: 'Fils d’exécution',
  engineKind: 'Moteur',
  selfTest: 'Autotest',
  runSelfTest: 'Lancer l’autotest',
  selfTestPassed: (count) => `réussi : les ${count} jetons sont ceux du paquet`,
  selfTestFailed: (same, count) => `diffère : ${same} jetons sur ${count} sont ceux du paquet`,
  runBenchmark: 'Lancer la mesure',
  benchmarkResult: 'Résultat de la mesure',
  running: 'En cours…',
  notYet: '–',

  theme: 'Apparence',
  themes: { system: 'Comme le système', light: 'Claire', dark: 'Sombre' },
  temperature: 'Température (0 : toujours le jeton le plus probable)',
  topK: 'Choisir parmi les plus probables (top-k, 0 : tous)',
  topP: 'Choisir dans cette part (top-p)',
  repetitionPenalty: 'Pénalité de répétition (1 : aucune)',
  maxNewTokens: 'Réponse la plus longue, en jetons',
  greedy: 'Glouton : chaque fois la même réponse',
  proposal: 'Comme le paquet le propose',
  specials: 'Jetons spéciaux dans les messages',
  specialsAsText: 'Restent du texte',
  specialsAsTokens: 'Comptent comme jetons',
  specialsHint: 'Par exemple <|im_end|>, qui termine un tour. Comme texte, il n’en termine pas.',
  automatic: 'Automatique',
  idle: 'Décharger le modèle au repos',
  idleAfter: (minutes) =>
    minutes === null ? 'Jamais' : minutes === 1 ? 'Après 1 minute' : `Après ${minutes} minutes`,
  threadsHint: 'Cœurs que le modèle peut prendre ; il est chargé de nouveau.',
};

/** A language, with how it writes numbers. */
export interface Language {
  code: 'en' | 'fr';
  texts: Texts;
}

/** The first language of `preferred` that the app speaks; English otherwise. */
export function chooseLanguage(preferred: readonly string[]): Language {
  for (const tag of preferred) {
    if (/^fr\b/i.test(tag)) return { code: 'fr', texts: fr };
    if (/^en\b/i.test(tag)) break;
  }
  return { code: 'en', texts: en };
}
