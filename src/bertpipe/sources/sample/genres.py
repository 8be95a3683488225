"""The fourteen genres: labels, flavours, scenes. A scene is a line of seven words (`parse_scenes`)."""

from __future__ import annotations

from bertpipe.sources.sample.lexicon import Genre, parse_scenes

# The words of a label that any genre may use, and that therefore mark none.
_SHARED_LABEL_WORDS = frozenset(
    ("film", "story", "drama", "tale", "adventure", "comedy", "thriller", "saga", "opera", "epic", "farce")
)
IDIOMS: dict[str, tuple[str, ...]] = {
    "western": ("a long ride down the dusty trail", "six bullets and one lawless street",
                "the last honest badge in town", "the price of a good mustang"),
    "heist": ("one last robbery before the quiet life", "a perfect scheme with one missing piece",
              "honour among very reckless crooks", "the slow click of an old safe"),
    "space": ("a cold light beyond the galaxy", "one small capsule against the dark",
              "the silence after the last countdown", "a signal from the far side of the moon"),
    "ghost": ("a cold hand on the staircase", "the thing behind the attic door",
              "a whisper from beyond the crypt", "one candle against a pale darkness"),
    "court": ("the truth and nothing but the oath", "twelve tired people and one ballot",
              "a guilty secret told under oath", "the long road to the courtroom"),
    "romance": ("a first embrace in the rain", "the letter that came too late",
                "two shy people and one umbrella", "a farewell that neither of them wants"),
    "war": ("a muddy road to the front trench", "the last quiet night before the barrage",
            "brothers under one battered helmet", "a long retreat through the rain"),
    "musical": ("a chorus that nobody can forget", "one more duet before the lights go down",
                "the long road to the big stage", "a melody passed from hand to hand"),
    "football": ("one ball and eleven tired dreamers", "the last penalty of a long season",
                 "a wet pitch on a cold sunday", "the trophy that got away"),
    "detective": ("one clue too many", "the alibi that was too perfect",
                  "a murder behind a locked door", "a line of footprints in the rain"),
    "pirate": ("fifteen rogues and one small island", "the treasure that drowned its owners",
               "a strange sail in the night", "the long drop from the gangway"),
    "cooking": ("too many hands in one kitchen", "a pinch of salt in the soup",
                "the last oyster on the plate", "a recipe for the perfect loaf"),
    "spy": ("a passport with the wrong name", "two masks and one stolen dossier",
            "the enemy inside the ministry", "a coded knock at the border"),
    "hospital": ("one long night on the ward", "the silence after the diagnosis",
                 "a steady hand and a clean scalpel", "the fever that would not break"),
}  # fmt: skip
REMARKS: dict[str, tuple[str, ...]] = {
    "western": (
        "under a noon sky, the duel is/was {well} staged in {weather}.",
        "dust on the wagon wheels looks/looked [real|fake], {but} {persons} look/looked {good}.",
        "the stampede comes/came, and {director} [holds/held|loses/lost] {director:his} reins.",
        "one revolver, one shot, one {quality} {person}, how {good}!",
    ),
    "heist": (
        "the robbery takes/took twenty minutes without words, {well}.",
        "{I} [always|never] knew where {lead} hides/hid {lead:his} diamond.",
        "the getaway through {city} is/was {well} cut and {well} driven.",
        "{lead} puts/put {lead:his} ear to the safe {while} {second} {does1} {objects1}.",
    ),
    "space": (
        "the starship is/was [vast|tiny], {but} {good} stars fill/filled its windows.",
        "{while} the countdown begins/began, {lead} shuts/shut {lead:his} {good} eyes.",
        "aliens wear/wore [superb|cheap] masks, {but} {director} {shines}.",
        "in this galaxy nobody hears/heard {lead:whom}, {but} {I} [laughed|yawned].",
    ),
    "ghost": (
        "{while} the phantom comes/came, {viewers} [gasped|giggled] {well}.",
        "candles go/went out {while} {director} [renews/renewed|spoils/spoiled] {director:his} old tricks.",
        "the seance is/was {well} lit by {number} {light} candles.",
        "{lead} climbs/climbed the staircase, and {lead:his} fear is/was {good}.",
    ),
    "court": (
        "{lead} speaks/spoke {lead:his} testimony {well} for {number} minutes.",
        "the judge says/said little, {but} each gavel falls/fell {well}.",
        "jurors [rarely|often] look/looked so {good} {while} {lead} talks/talked.",
        "{director} films/filmed {director:his} oath in one {good} take.",
    ),
    "romance": (
        "an embrace comes/came late, in {weather}, {well} timed.",
        "{lead:name} and {second:name} [melt/melted|freeze/froze], and their love [grows/grew|dies/died].",
        "bells, cousins and a {good} wedding end/ended the {film}.",
        "{lead} reads/read {lead:his} letter, {well}, and {viewers} [wept|coughed].",
    ),
    "war": (
        "one flare lights/lit the {good} night in the trench.",
        "{lead} loses/lost {lead:his} helmet in the barrage, {well}.",
        "war means/meant [mud and fear|flags and speeches], {but} {persons} are/were {good}.",
        "the retreat across the {river} takes/took {number} {good} minutes.",
    ),
    "musical": (
        "the finale is/was {well} staged on {number} steps of {light} light.",
        "{lead} [sings/sang|shouts/shouted] each chorus {lead:self}, {well}.",
        "{persons} burst into song for [good|bad] reasons, {good} melody after {good} melody.",
        "{I} left the duet [humming|groaning] {while} {lead} {shines}.",
    ),
    "football": (
        "{while} the penalty {shines}, {number} {persons} hold/held their breath.",
        "{lead} [can|cannot] kick a ball, {but} {lead:his} pitch scenes are/were {good}.",
        "{director} films/filmed football low in the grass, {well}.",
        "by the whistle {viewers} [cheered|snored] like {good} {persons}.",
    ),
    "detective": (
        "a button and one {good} guess solve/solved the murder.",
        "each clue is/was [fairly|hardly] shown, {but} {lead} {shines}.",
        "{lead} questions/questioned {number} suspects with {lead:his} {good} hat on.",
        "{I} [never|soon] guessed the killer, {but} {lead} and {lead:his} alibi are/were {good}.",
    ),
    "pirate": (
        "the {good} tempest has/had real water and {number} small ships.",
        "swords clash/clashed, sails burn/burned, and {lead} {shines}.",
        "the treasure is/was {good}, {but} {lead} wants/wanted {lead:his} {object0}.",
        "{second} has/had a parrot on {second:his} shoulder, a {good} pirate bird.",
    ),
    "cooking": (
        "[see|skip] it for the cakes, {good} {while} {lead} {does0} {objects0}.",
        "dinner is/was {well} served in {number} courses and one {good} shot.",
        "{lead} drops/dropped {lead:his} soup, {second} {second:his} {object1}, {well}.",
        "{while} a sauce [bubbles/bubbled|curdles/curdled], {I} feel/felt [hungry|queasy].",
    ),
    "spy": (
        "nobody trusts/trusted {lead:whom} at the embassy, and {lead:his} silence is/was {good}.",
        "{director} holds/held {director:his} handover in one {good} shot.",
        "{lead} changes/changed {lead:his} passport, {lead:his} hat and {lead:his} {good} smile.",
        "{while} {second} {does1} {objects1}, a dossier opens/opened [slowly|pointlessly].",
    ),
    "hospital": (
        "at midnight {number} {good} hands begin/began the operation.",
        "{lead} washes/washed {lead:his} hands before each patient, {well}.",
        "a {light} corridor is/was lit [with care|like a bus stop], {well}.",
        "no {decade} fever is/was so {good} {while} {lead} {does0} {objects0}.",
    ),
}  # fmt: skip


def _genre(name: str, labels: tuple[str, str], flavours: str, table: str) -> Genre:
    words = frozenset(word for label in labels for word in label.split())
    return Genre(
        name=name,
        labels=labels,
        label_words=words - _SHARED_LABEL_WORDS,
        flavours=tuple(flavours.split()),
        scenes=parse_scenes(table),
        idioms=IDIOMS[name],
        remarks=REMARKS[name],
    )


GENRES: tuple[Genre, ...] = (
    _genre("western", ("western", "frontier tale"), "rugged pioneering untamed", """
        sheriff       polish    badge       in      jail         shootout      lawless
        rancher       brand     steer       on      prairie      stampede      dusty
        outlaw        draw      revolver    in      saloon       holdup        grizzled
        cowboy        swing     lasso       in      corral       roundup       bowlegged
        gunslinger    unbuckle  holster     in      canyon       duel          sunburnt
        prospector    dig       nugget      in      gulch        landslide     parched
        blacksmith    hammer    horseshoe   at      stable       rodeo         leathery
        settler       mend      wagon       on      trail        drought       windswept
        drifter       tether    mustang     in      gully        showdown      laconic
        deputy        shoulder  carbine     at      stockade     jailbreak     squinting
    """),
    _genre("heist", ("heist film", "caper"), "shady daring illicit", """
        safecracker   open      safe        in      strongroom   robbery       nimble
        thief         lift      diamond     at      museum       burglary      stealthy
        forger        print     banknote    in      workshop     swindle       crooked
        driver        start     van         in      garage       getaway       reckless
        mastermind    unroll    blueprint   in      hideout      scheme        cunning
        hacker        bypass    alarm       at      casino       blackout      sly
        burglar       cut       cable       on      rooftop      stickup       catlike
        watchman      check     padlock     in      lobby        lockdown      drowsy
        pawnbroker    count     jewel       at      pawnshop     payoff        greedy
        grifter       mark      card        at      racetrack    bluff         oily
    """),
    _genre("space", ("space opera", "starship saga"), "orbital futuristic planetary", """
        astronaut     seal      airlock     in      capsule      liftoff       weightless
        pilot         land      shuttle     on      moon         eclipse       lunar
        android       rewire    circuit     in      reactor      meltdown      metallic
        alien         raise     tentacle    in      crater       abduction     slimy
        navigator     chart     orbit       across  galaxy       supernova     interstellar
        overlord      fire      laser       aboard  mothership   rebellion     galactic
        engineer      repair    thruster    aboard  freighter    malfunction   robotic
        astronomer    focus     telescope   at      observatory  flyby         starlit
        colonist      patch     dome        on      asteroid     decompression airless
        stowaway      switch    hologram    in      hangar       countdown     cosmic
    """),
    _genre("ghost", ("ghost story", "haunting tale"), "spooky supernatural otherworldly", """
        phantom       rattle    chain       in      mansion      visitation    spectral
        widow         light     candle      in      attic        seance        pale
        undertaker    nail      coffin      in      crypt        burial        ghastly
        exorcist      raise     crucifix    in      cellar       possession    unholy
        gravedigger   drop      shovel      in      graveyard    resurrection  misty
        governess     clutch    doll        in      nursery      apparition    eerie
        caretaker     oil       hinge       in      hallway      whisper       creaky
        psychic       read      palm        in      parlour      trance        clairvoyant
        witch         brew      potion      in      marsh        curse         wicked
        sleepwalker   cover     mirror      on      staircase    nightmare     cobwebbed
    """),
    _genre("court", ("courtroom drama", "legal drama"), "judicial lawful contested", """
        judge         bang      gavel       in      courtroom    sentencing    stern
        lawyer        draft     affidavit   at      courthouse   hearing       litigious
        prosecutor    present   exhibit     before  tribunal     indictment    accusing
        juror         cast      ballot      in      anteroom     deliberation  impartial
        defendant     sign      confession  in      prison       acquittal     guilty
        witness       swear     oath        in      gallery      testimony     sworn
        clerk         stamp     docket      in      registry     adjournment   clerical
        bailiff       read      summons     in      vestibule    eviction      solemn
        stenographer  type      transcript  near    rostrum      deposition    verbatim
        barrister     adjust    wig         outside lawcourt     rebuttal      bewigged
    """),
    _genre("romance", ("romance", "love story"), "amorous loving wedded", """
        bride         carry     bouquet     in      chapel       wedding       blushing
        groom         drop      ring        at      altar        engagement    smitten
        poet          write     sonnet      in      garden       courtship     lovesick
        florist       trim      tulip       in      greenhouse   anniversary   fragrant
        suitor        offer     locket      on      balcony      proposal      gallant
        sweetheart    seal      letter      on      promenade    farewell      tearful
        matchmaker    fold      handkerchief in     ballroom     flirtation    coy
        heiress       lift      veil        in      carriage     elopement     wealthy
        bachelor      share     umbrella    on      footbridge   embrace       bashful
        soulmate      carve     initial     on      riverbank    reunion       wistful
    """),
    _genre("war", ("war film", "battlefield epic"), "military wartime embattled", """
        soldier       clean     rifle       in      trench       bombardment   muddy
        colonel       lower     periscope   in      headquarters assault      decorated
        sergeant      inspect   bayonet     at      barracks     inspection    gruff
        conscript     throw     grenade     in      foxhole      ambush        shellshocked
        sniper        steady    gunsight    in      belfry       skirmish      camouflaged
        gunner        aim       howitzer    on      ridge        barrage       deafening
        corporal      start     tank        on      battlefield  counterattack armoured
        aviator       drop      bomb        over    airfield     blitz         airborne
        partisan      bury      landmine    near    outpost      retreat       ragged
        lieutenant    strap     helmet      in      bunker       evacuation    battered
    """),
    _genre("musical", ("musical", "song revue"), "tuneful melodious vaudeville", """
        singer        hold      microphone  in      nightclub    encore        sequinned
        dancer        lace      slipper     on      stage        recital       barefoot
        choreographer tap       rhythm      in      dancehall    rehearsal     syncopated
        soprano       warm      aria        in      conservatory serenade      operatic
        crooner       hum       ballad      in      cabaret      duet          velvety
        bandleader    wave      baton       on      bandstand    medley        jazzy
        understudy    memorise  lyric       in      playhouse    audition      starstruck
        chorister     practise  chorus      in      theatre      overture      choral
        songwriter    scribble  melody      in      speakeasy    singalong     melodic
        impresario    lift      curtain     in      auditorium   finale        theatrical
    """),
    _genre("football", ("football film", "sports drama"), "sporting footballing competitive", """
        goalkeeper    catch     ball        in      stadium      penalty       acrobatic
        striker       lace      boot        on      pitch        tournament    sprinting
        coach         blow      whistle     on      touchline    substitution  tactical
        referee       check     stopwatch   in      midfield     kickoff       unbeaten
        defender      wear      shinguard   in      tunnel       tackle        muscular
        winger        strap     kneepad     in      gym          workout       athletic
        manager       lift      trophy      in      grandstand   championship  victorious
        supporter     wave      scarf       on      terrace      derby         chanting
        rookie        earn      jersey      on      sideline     playoff       sweaty
        groundsman    paint     goalpost    near    dugout       replay        grassy
    """),
    _genre("detective", ("detective story", "whodunit"), "investigative mysterious unsolved", """
        sleuth        follow    footprint   in      alley        stakeout      shrewd
        inspector     dust      fingerprint in      precinct     interrogation rumpled
        constable     pocket    handcuff    at      crossroads   patrol        uniformed
        coroner       lift      magnifier   in      morgue       autopsy       forensic
        informant     sell      clue        under   streetlamp   lineup        shifty
        suspect       invent    alibi       in      boardinghouse murder       suspicious
        butler        mix       poison      in      cloakroom    poisoning     furtive
        blackmailer   demand    ransom      in      phonebooth   kidnapping    hardboiled
        profiler      sketch    bloodstain  in      apartment    homicide      methodical
        gumshoe       button    trenchcoat  in      backstreet   unmasking     noirish
    """),
    _genre("pirate", ("pirate adventure", "swashbuckler"), "nautical seaborne briny", """
        pirate        bury      treasure    on      island       mutiny        bearded
        captain       draw      cutlass     aboard  galleon      raid          seafaring
        buccaneer     hoist     sail        on      deck         tempest       salty
        helmsman      turn      rudder      through strait       shipwreck     weathered
        deckhand      coil      rope        at      harbour      typhoon       barnacled
        lookout       raise     spyglass    above   reef         broadside     windblown
        corsair       load      cannon      in      cove         plundering    swaggering
        mutineer      steal     compass     on      gangway      keelhauling   mutinous
        castaway      crack     coconut     in      lagoon       squall        shipwrecked
        smuggler      roll      barrel      in      tavern       brawl         tattooed
    """),
    _genre("cooking", ("cooking comedy", "kitchen farce"), "culinary edible spicy", """
        chef          stir      sauce       in      kitchen      banquet       garlicky
        baker         knead     loaf        in      bakery       breakfast     floury
        waiter        spill     soup        in      restaurant   dinner        aproned
        butcher       slice     sausage     at      market       barbecue      meaty
        confectioner  glaze     cake        in      patisserie   tasting       sugary
        dishwasher    scrub     saucepan    in      scullery     supper        soapy
        gourmet       swallow   oyster      in      brasserie    feast         buttery
        grocer        weigh     tomato      in      pantry       picnic        juicy
        sommelier     uncork    bottle      in      bistro       toast         tipsy
        cheesemaker   wrap      cheese      in      dairy        lunch         creamy
    """),
    _genre("spy", ("spy thriller", "espionage film"), "covert classified shadowy", """
        agent         swap      briefcase   at      embassy      handover      undercover
        courier       smuggle   microfilm   across  border       rendezvous    clandestine
        codebreaker   crack     cipher      in      ministry     decryption    coded
        diplomat      forge     passport    in      consulate    summit        diplomatic
        assassin      hide      silencer    in      safehouse    assassination faceless
        defector      burn      dossier     at      checkpoint   defection     fugitive
        mole          plant     wiretap     in      bureau       leak          disloyal
        spymaster     shred     memo        in      townhouse    coverup       secretive
        operative     tune      transmitter in      chalet       broadcast     encrypted
        saboteur      wire      detonator   at      refinery     sabotage      masked
    """),
    _genre("hospital", ("hospital drama", "medical drama"), "surgical bedside medicinal", """
        surgeon       rinse     scalpel     in      infirmary    operation     sterile
        nurse         shake     thermometer on      ward         fever         feverish
        doctor        wear      stethoscope in      clinic       diagnosis     clinical
        patient       swallow   pill        in      sanatorium   relapse       anaemic
        paramedic     push      stretcher   near    ambulance    emergency     concussed
        pharmacist    label     vaccine     in      dispensary   epidemic      contagious
        midwife       warm      incubator   in      cubicle      birth         pregnant
        anaesthetist  fill      syringe     in      laboratory   overdose      numb
        psychiatrist  prescribe sedative    in      asylum       breakdown     delirious
        porter        oil       wheelchair  in      corridor     transfusion   bandaged
    """),
)  # fmt: skip
