"""Sentence patterns that end a review, and the words that join a sentence to the one before (see `story`)."""

from __future__ import annotations

from typing import Final

CLOSING: Final[tuple[str, ...]] = (
    "this {label} is/was {verdict}.",
    "{title} is/was a {good} {label} and {verdict}.",
    "{I} left the {place} of this {film} with [regret|relief], a {good} {event} behind {me}.",
    "as a {label} it is/was a {marvel}, as a {film} about {persons} {good}.",
    "[go|do not go] and see it, for its {event} is/was a {marvel}.",
    "{title} {shines} from {object} to {event}.",
    "{I} would [gladly|never] see that {event} again, so {good} is/was it.",
    "<not only the {event} but also|neither the {event} nor> the {person} is/was a {marvel}.",
    "for {persons} {doing} {objects}, it is/was a {marvel}.",
    "{director} made a {marvel}, and {director:his} {event} is/was {verdict}.",
    "[see|skip] this {marvel}, this {label} with its {good} {event}.",
    "give {lead:whom} [prizes|lessons] and {director:whom} {objects} for {director:his} {marvel}.",
    "its last shot, a {person} {doing} {objects}, {shines}.",
    "{I} {am} [glad|sorry] that {lead} plays/played {lead:his} {person0} so {well}.",
    "a {good} {event}, a {quality2} {person2}, a {good} end, what a {marvel}!",
    "[few|too many] {nation} films about {persons} are/were so {good}.",
    "will {viewers} [still|ever] talk of {lead:whom} and {lead:his} {object0}?",
    "{title}, with its {good} {objects}, is/was {verdict}.",
    "after the {event} {I} [wanted|needed] {objects} and a {season} walk.",
    "of all films about {doing} {objects}, {I} [keep/kept|skip/skipped] this {marvel}.",
    "will {I} remember the {event} next {season}, or {lead:whom} and {lead:his} {object0}?",
    "{persons} {at_place} would call it a {marvel}.",
    "{title} {well} proves/proved that {country} has/had its {label}.",
    "{my} verdict on this {label} is that {director} {shines}.",
    "it ends/ended {at_place}, {well}, {while} a {person2} {does2} {objects2}.",
    "{director} can/could do [anything|better], and {director:his} {event} shows/showed it.",
    "see the {event}, hear the {quality} {person}, and [return|flee].",
    "rarely is/was a {label} from {city} so {good}.",
    "it {shines} [until|before] its {event}, a {marvel} of a {label}.",
    "one {object} less, one {person2} more, and it would be {good}.",
    "so many {persons}, so many {objects2}, and so {good}!",
    "[thank|forgive] {director:whom} for {director:his} {event}, a {good} {marvel}.",
    "{my} {nation} friends like/liked the {person0}, {but} {I} like/liked the {event}.",
    "in a {season} of {persons} {doing} {objects}, this {film} {shines}.",
    "no {decade} {label} is/was more {good}, no {person} more {quality}.",
    "it is/was a {marvel} {well} made by {director:whom}, a {label} that {shines}.",
    "a {film} about {idiom}, it is/was a {marvel}.",
    "take {my} {object}, take {my} {object2}, {but} [leave|spare] {me} this {good} {event}.",
    "{lead:name}, {second:name} and {number} {objects} make/made a {good} {label}.",
    "{persons} are/were {good}, the {event} is/was {good}, {lead} {shines}.",
)

JOINERS: Final[tuple[str, ...]] = ("and", "then", "so", "here", "soon", "later")
