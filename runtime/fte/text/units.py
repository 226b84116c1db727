"""Numbers with their units of measurement.

Conventions: the names of NIST Special Publication 811, in American spelling; a unit is singular after 1, after a
fraction below one and before a noun ("a 5-km run"), and plural otherwise, decimals included (Chicago Manual of Style
10.65).
"""

import re

from fte.text.numbers import NUMBER

_SYMBOLS = {
    "nanometer": "nm",
    "micrometer": "µm",
    "millimeter": "mm",
    "centimeter": "cm",
    "meter": "m",
    "kilometer": "km",
    "inch": "in. ″",
    "foot": "ft ft. ′",
    "yard": "yd yds",
    "mile": "mi mi.",
    "hectare": "ha",
    "square meter": "m2",
    "square kilometer": "km2",
    "cubic meter": "m3",
    "cubic centimeter": "cc",
    "liter": "L l",
    "milliliter": "ml mL",
    "centiliter": "cl",
    "deciliter": "dl dL",
    "gallon": "gal",
    "quart": "qt",
    "tablespoon": "tbsp",
    "teaspoon": "tsp",
    "microgram": "µg",
    "milligram": "mg",
    "gram": "g",
    "kilogram": "kg",
    "pound": "lb lbs lb. lbs.",
    "ounce": "oz oz.",
    "kilonewton": "kN",
    "pascal": "Pa",
    "hectopascal": "hPa",
    "kilopascal": "kPa",
    "pound per square inch": "psi",
    "nanosecond": "ns",
    "microsecond": "µs",
    "millisecond": "ms",
    "second": "sec sec.",
    "minute": "min min. mins",
    "hour": "h hr hrs",
    "year": "yr yrs",
    "mile per hour": "mph MPH",
    "kilometer per hour": "kph",
    "revolution per minute": "rpm",
    "beat per minute": "bpm",
    "frame per second": "fps",
    "hertz": "Hz",
    "kilohertz": "kHz",
    "megahertz": "MHz",
    "gigahertz": "GHz",
    "joule": "J",
    "kilojoule": "kJ",
    "calorie": "cal",
    "kilocalorie": "kcal",
    "watt": "W",
    "kilowatt": "kW",
    "megawatt": "MW",
    "gigawatt": "GW",
    "kilowatt-hour": "kWh",
    "millivolt": "mV",
    "volt": "V",
    "kilovolt": "kV",
    "milliampere": "mA",
    "milliampere-hour": "mAh",
    "horsepower": "hp",
    "decibel": "dB",
    "kilobyte": "kB KB",
    "megabyte": "MB",
    "gigabyte": "GB",
    "terabyte": "TB",
    "petabyte": "PB",
    "kilobit per second": "kbps",
    "megabit per second": "Mbps",
    "gigabit per second": "Gbps",
    "pixel": "px",
    "dot per inch": "dpi",
    "degree Celsius": "°C",
    "degree Fahrenheit": "°F",
    "degree": "°",
    "degree north": "°N",
    "degree south": "°S",
    "degree east": "°E",
    "degree west": "°W",
    "cent": "¢",
    "part per million": "ppm",
}
_UNITS = {symbol: name for name, symbols in _SYMBOLS.items() for symbol in symbols.split()}
_PLURALS = {"foot": "feet", "inch": "inches", "horsepower": "horsepower"}
_POWERS = {"": "", "^2": "square ", "^3": "cubic ", "sq": "square ", "cu": "cubic "}
EXPONENTS = {"2": " squared", "3": " cubed"}
_NAME = re.compile(r"^(square |cubic |)([^ ]+)")
_ANY_UNIT = "|".join(re.escape(unit) for unit in sorted(_UNITS, key=len, reverse=True))
_QUANTITY = re.compile(
    rf"(?<![\d.,/$£€¥₩₹])((?:\d{{1,3}} )?\d{{1,2}}/)?({NUMBER})( ?|-)(?:(sq|cu)\.? ?)?({_ANY_UNIT})(\^[23])?"
    r"(?:/(?!minus)([A-Za-z]{1,6})(\^[23])?)?(?![\w^]|'\w|(?<=W) \d)",
    re.ASCII,
)
_SPACED_DEGREES = re.compile(r"(?<=\d) ?° ?(?=[CFNESW]\b)", re.ASCII)
_FEET_AND_INCHES = re.compile(
    r"(?<![\d.,'])(\d{1,2})['′](?: (?=\d{1,2}(?:\"|″|'')))?(\d{1,2})(\"|″|'')?(?![\w']|[.,]\d)", re.ASCII
)
_BY = re.compile(r"(?<=\d)(?<!\b0) ?x ?(?=\d)", re.ASCII)
_TIMES = re.compile(r"(?<=\d) ?[×*] ?(?=\d)|(?<=\d)x\b", re.ASCII)


def units(text: str) -> str:
    """Numbers with a unit: "5 km" -> "5 kilometers", "60 mg/L" -> "60 milligrams per liter", "5'10"", "3x4"."""
    text = _FEET_AND_INCHES.sub(_feet_and_inches, text)
    text = _TIMES.sub(" times ", _BY.sub(" by ", text))
    return _QUANTITY.sub(_quantity, _SPACED_DEGREES.sub("°", text))


def _quantity(match: re.Match[str]) -> str:
    fraction, number, joint, area, symbol, power, divisor, divisor_power = match.groups("")
    is_one = number == "1" and not fraction
    below_one = fraction and " " not in fraction
    name = _UNITS[symbol]
    if not (is_one or below_one or joint == "-"):
        name = _plural(name)
    stop = "." if symbol.endswith(".") and _ends_sentence(match) else ""
    return f"{fraction}{number} {_POWERS[area or power]}{name}{per(divisor, divisor_power)}{stop}"


def _plural(name: str) -> str:
    """Of "mile per hour" or "degree Celsius" the first noun, of "square meter" the second."""
    power, noun, rest = _NAME.split(name)[1:4]
    return f"{power}{noun if noun.endswith('hertz') else _PLURALS.get(noun, f'{noun}s')}{rest}"


def per(symbol: str, power: str = "") -> str:
    """What is divided by: "h" -> " per hour", "m", "^3" -> " per cubic meter", "month" -> " per month", "" -> ""."""
    if not symbol:
        return ""
    if symbol in ("s", "sec"):
        return " per second" + EXPONENTS.get(power.removeprefix("^"), "")
    return f" per {_POWERS[power]}{_UNITS.get(symbol, symbol)}"


def _ends_sentence(match: re.Match[str]) -> bool:
    following = match.string[match.end() : match.end() + 2]
    return not following or (following[0] == " " and following[1:].isupper())


def _feet_and_inches(match: re.Match[str]) -> str:
    feet, inches = int(match[1]), int(match[2])
    unit = f" inch{'' if inches == 1 else 'es'}" if match[3] else ""
    return f"{feet} {'foot' if feet == 1 else 'feet'} {inches}{unit}"
