"""The fourteen genres: labels, flavours, scenes. A scene is a line of seven words (`parse_scenes`)."""

from __future__ import annotations

from bertpipe.sources.sample.lexicon import Genre, parse_scenes
from bertpipe.sources.sample.remarks import IDIOMS, REMARKS

# The words of a label that any genre may use, and that therefore mark none.
_SHARED_LABEL_WORDS = frozenset(
    ("film", "story", "drama", "tale", "adventure", "comedy", "thriller", "saga", "opera", "epic", "farce")
)


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
