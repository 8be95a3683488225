"""What a film has besides its genre: a country with its people, an age of cinema, an instrument, a season."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True, kw_only=True)
class Country:
    """A country, and the given names and surnames of the people who make films there."""

    name: str
    nation: str
    language: str
    river: str
    cities: tuple[str, ...]
    women: tuple[str, ...]
    men: tuple[str, ...]
    surnames: tuple[str, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Era:
    """An age of cinema: its years, and what films of that age look and sound like."""

    decade: str
    years: tuple[int, ...]
    mode: str
    shade: str
    stock: str
    venue: str
    speech: str
    quirk: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Instrument:
    """An instrument that leads a score, how it sounds, and the section of the orchestra it sits in."""

    instrument: str
    sound: str
    section: str
    player: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Season:
    """A season to shoot in, with its weather and the light that comes with it."""

    season: str
    weather: str
    light: str


def _country(
    name: str, nation: str, language: str, river: str, *, cities: str, women: str, men: str, surnames: str
) -> Country:
    return Country(
        name=name,
        nation=nation,
        language=language,
        river=river,
        cities=tuple(cities.split()),
        women=tuple(women.split()),
        men=tuple(men.split()),
        surnames=tuple(surnames.split()),
    )


COUNTRIES: tuple[Country, ...] = (
    _country(
        "France", "French", "French", "Seine", cities="Paris Lyon Marseille",
        women="Claire Odile Mathilde", men="Luc Etienne Gaston",
        surnames="Aubertin Carrel Delorme Fontanel Garnier Lacombe Marchal Perrault Roussel Tissot",
    ),
    _country(
        "Italy", "Italian", "Italian", "Tiber", cities="Rome Naples Turin",
        women="Chiara Lucia Bianca", men="Marco Enzo Paolo",
        surnames="Alberici Bonetti Cardini Falcone Gallo Lombardi Marchetti Orsini Pavan Ricci",
    ),
    _country(
        "Japan", "Japanese", "Japanese", "Kamo", cities="Tokyo Kyoto Osaka",
        women="Haruka Yuki Emiko", men="Kenji Hiroshi Takeo",
        surnames="Aoyama Fujita Hayashi Ishida Kimura Matsuda Nakano Okada Sakamoto Tanabe",
    ),
    _country(
        "Norway", "Norwegian", "Norwegian", "Glomma", cities="Oslo Bergen Tromso",
        women="Ingrid Solveig Astrid", men="Lars Henrik Olav",
        surnames="Aasen Bakke Dahl Eide Fossum Haugen Iversen Kvam Lunde Moen",
    ),
    _country(
        "Portugal", "Portuguese", "Portuguese", "Tagus", cities="Lisbon Porto Coimbra",
        women="Ines Beatriz Leonor", men="Joao Tiago Duarte",
        surnames="Almeida Barros Cardoso Esteves Figueira Gouveia Lopes Marques Nogueira Pacheco",
    ),
    _country(
        "Hungary", "Hungarian", "Hungarian", "Danube", cities="Budapest Szeged Pecs",
        women="Eszter Ilona Katalin", men="Andras Laszlo Gabor",
        surnames="Balogh Csonka Domonkos Erdei Fekete Gulyas Horvath Juhasz Kertesz Lakatos",
    ),
    _country(
        "Mexico", "Mexican", "Spanish", "Lerma", cities="Puebla Oaxaca Guadalajara",
        women="Ximena Lupita Valeria", men="Diego Rodrigo Emilio",
        surnames="Arriaga Barragan Cervantes Dominguez Escobedo Fuentes Guerrero Ibarra Luna Mendoza",
    ),
    _country(
        "Egypt", "Egyptian", "Arabic", "Nile", cities="Cairo Alexandria Luxor",
        women="Amina Farida Layla", men="Karim Hassan Tarek",
        surnames="Badawi Darwish Fahmy Ghanem Hamdi Kamal Lotfy Mansour Nasser Qandil",
    ),
    _country(
        "India", "Indian", "Hindi", "Ganges", cities="Mumbai Delhi Jaipur",
        women="Anjali Meera Kavita", men="Arjun Vikram Rohan",
        surnames="Banerjee Chopra Deshmukh Gupta Iyer Joshi Kulkarni Malhotra Nair Pandey",
    ),
    _country(
        "Ireland", "Irish", "English", "Liffey", cities="Dublin Cork Galway",
        women="Aoife Niamh Maeve", men="Declan Eamon Fergal",
        surnames="Brennan Carrick Dempsey Finnegan Gallagher Hanlon Keogh Lafferty Madigan Nolan",
    ),
    _country(
        "Greece", "Greek", "Greek", "Evros", cities="Athens Patras Corinth",
        women="Eleni Sofia Daphne", men="Nikos Stavros Petros",
        surnames="Alexiou Christou Dimas Floros Galanis Kouros Lazaridis Makris Nikolaidis Pappas",
    ),
    _country(
        "Finland", "Finnish", "Finnish", "Kemi", cities="Helsinki Tampere Turku",
        women="Aino Helmi Kaisa", men="Eero Jukka Mikko",
        surnames="Aalto Hakala Jokinen Koskela Laine Makela Niemi Ojala Peltola Rautio",
    ),
)  # fmt: skip

ERAS: tuple[Era, ...] = (
    Era(decade="twenties", years=(1923, 1926, 1928), mode="silent", shade="flickering", stock="nitrate",
        venue="picture palace", speech="printed lines", quirk="hand tinted skies"),
    Era(decade="thirties", years=(1932, 1935, 1938), mode="talking", shade="monochrome", stock="acetate",
        venue="newsreel cinema", speech="crackling lines", quirk="painted backdrops"),
    Era(decade="fifties", years=(1951, 1954, 1957), mode="widescreen", shade="technicolor", stock="panoramic",
        venue="drive in", speech="ringing lines", quirk="saturated reds"),
    Era(decade="seventies", years=(1971, 1974, 1978), mode="handheld", shade="grainy", stock="fast",
        venue="campus film club", speech="overlapping lines", quirk="sudden zooms"),
    Era(decade="eighties", years=(1982, 1985, 1988), mode="analogue", shade="neon", stock="magnetic",
        venue="video shop", speech="punchy lines", quirk="smoke machines"),
    Era(decade="nineties", years=(1992, 1995, 1998), mode="independent", shade="desaturated", stock="cheap",
        venue="multiplex", speech="ironic lines", quirk="jump cuts"),
    Era(decade="noughties", years=(2003, 2006, 2009), mode="digital", shade="crisp", stock="virtual",
        venue="web cinema", speech="mumbled lines", quirk="computer effects"),
)  # fmt: skip

INSTRUMENTS: tuple[Instrument, ...] = tuple(
    Instrument(instrument=instrument, sound=sound, section=section, player=player)
    for instrument, sound, section, player in (
        ("piano", "tinkle", "keyboard", "pianist"),
        ("organ", "rumble", "keyboard", "organist"),
        ("harpsichord", "twang", "keyboard", "harpsichordist"),
        ("cello", "hum", "string", "cellist"),
        ("violin", "whine", "string", "violinist"),
        ("harp", "shimmer", "string", "harpist"),
        ("guitar", "jangle", "string", "guitarist"),
        ("trumpet", "blare", "brass", "trumpeter"),
        ("trombone", "growl", "brass", "trombonist"),
        ("clarinet", "purr", "woodwind", "clarinettist"),
        ("flute", "flutter", "woodwind", "flautist"),
        ("saxophone", "moan", "woodwind", "saxophonist"),
        ("xylophone", "clatter", "percussion", "xylophonist"),
        ("drum", "thunder", "percussion", "drummer"),
    )
)

SEASONS: tuple[Season, ...] = (
    Season(season="winter", weather="snow", light="bluish"),
    Season(season="spring", weather="rain", light="silvery"),
    Season(season="summer", weather="heat", light="golden"),
    Season(season="autumn", weather="wind", light="amber"),
)
